"""The harness: runs pyfaceau beside reference CSVs of the C++ program OpenFace 2.2 and decides.

``python -m validation --help`` lists the commands. pyfaceau never imports this package.
"""
