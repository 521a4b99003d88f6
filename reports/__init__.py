"""Turns records of ``python -m validation`` into one self-contained page, and figures as PDF, SVG and PNG.

Everything here is a pure function of the records: what is drawn or tabulated was computed by ``validation`` and is read
from there, never computed again. matplotlib is needed here and nowhere else (``pip install pyfaceau[report]``).
"""
