"""What a kernel is: Numba's dispatcher with a lighter way to compile, to keep and to load machine code.

Numba optimises and assembles every kernel on its own, and once more inside each kernel that calls it; and before it
loads the first one from its cache it prepares to compile. Here

- a kernel that another kernel calls is handed over as plain LLVM code, to be optimised where it is used;
- only what Python calls becomes machine code, in one file per kernel and argument types;
- loading such a file prepares nothing but what the machine code refers to.
"""

from __future__ import annotations

import contextlib
import hashlib
import pickle
from collections.abc import Callable
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from llvmlite import binding as llvm
from numba.core import event, serialize, sigutils
from numba.core.caching import NullCache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, CompileResult
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import _FunctionCompiler  # type: ignore[attr-defined]
from numba.core.registry import CPUDispatcher
from numba.core.runtime import _nrt_python  # type: ignore[attr-defined]


class _InnerLibrary(JITCodeLibrary):
    """LLVM code of a kernel for the kernels that call it: neither optimised nor assembled by itself."""

    def finalize(self) -> None:
        self._raise_if_finalized()
        for library in dict.fromkeys(self._linking_libraries):
            if hasattr(self, "_reload_init"):  # not in older versions
                self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True


class _InnerCompiler(Compiler):
    """Numba's compiler as far as LLVM code."""

    def __init__(self, *settings: Any) -> None:
        super().__init__(*settings)
        self.state.library = _InnerLibrary(self.state.targetctx.codegen(), self.__class__.__name__)


class _InnerFunction(_FunctionCompiler):
    """Compiles without the wrappers through which Python and C would call."""

    def _customize_flags(self, flags: Any) -> Any:
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        return flags


class KernelFiles(NullCache):
    """Machine code of one kernel: a file per combination of argument types and processor.

    The folder stands for the sources, see `pyfaceau._jit.kernel_cache_dir`.
    """

    def __init__(self, function: Callable[..., Any], folder: Path) -> None:
        self._stem = f"{function.__module__}.{function.__qualname__}-{function.__code__.co_firstlineno}"
        self._folder = folder

    @property
    def cache_path(self) -> str:
        return str(self._folder)

    def _place(self, args: tuple[Any, ...], codegen: Any) -> tuple[Path, str]:
        """File for these types, and the text whose digest is in its name."""
        key = f"{[kind.name for kind in args]} {codegen.magic_tuple()}"
        return self._folder / f"{self._stem}.{hashlib.sha256(key.encode()).hexdigest()[:16]}.nbc", key

    def load_overload(self, args: tuple[Any, ...], context: Any) -> Any:
        """The kernel compiled for these argument types, None if there is no such file or it is of no use."""
        path, key = self._place(args, context.codegen())
        try:
            kept_key, result = pickle.loads(path.read_bytes())
        except Exception:  # absent or damaged: pickle raises whatever it stumbles over
            return None
        if kept_key != key:
            return None
        _offer_runtime()
        return CompileResult._rebuild(context, *result)

    def save_overload(self, args: tuple[Any, ...], result: Any) -> None:
        """Keep a kernel. Without a folder that can be written, every run compiles."""
        from pyfaceau.weights.cache import atomic_file

        if result.library.has_dynamic_globals:
            raise ValueError(f"{self._stem}: refers to addresses of this process, so it cannot be kept")
        path, key = self._place(args, result.library.codegen)
        name, form, (machine_code, _) = result.library.serialize_using_object_code()
        reduced = (
            (name, form, (machine_code, _stub(result.fndesc.llvm_cpython_wrapper_name))),
            _bare(result.fndesc), result.environment, result.signature, False, (), "", (),
            tuple(e for e in result._find_referenced_environments() if e.consts),  # else nothing reads it
        )  # fmt: skip
        with contextlib.suppress(OSError), atomic_file(path) as file:
            file.write(serialize.dumps((key, reduced)))


@cache
def _offer_runtime() -> None:
    """Make known where Numba's runtime is, to which machine code refers. Numba would also compile a part of it."""
    for name, address in _nrt_python.c_helpers.items():
        llvm.add_symbol(name if name.startswith("_") else f"NRT_{name}", address)


def _bare(description: Any) -> Any:
    """Without what only compiling needs and what may not be picklable."""
    description.typemap = description.calltypes = None
    return description


def _stub(name: str) -> bytes:
    """LLVM code that says no more than that ``name`` exists, in place of all the code that was assembled.

    Other kernels are never linked with it: `Kernel.compile` compiles for them anew.
    """
    return bytes(llvm.parse_assembly(f'define void @"{name}"() {{ ret void }}').as_bitcode())


class Kernel(CPUDispatcher):
    """A compiled function. Called from Python, it loads or compiles machine code for the arguments' types.

    Parameters
    ----------
    function : the Python function.
    options : Numba's target options.
    folder : where the machine code is kept.
    """

    _compiling = 0  # kernels that are being compiled now, one inside the other; changes under Numba's lock

    def __init__(self, function: Callable[..., Any], options: dict[str, Any], folder: Path) -> None:
        super().__init__(function, targetoptions=options)
        self._cache = KernelFiles(function, folder)

    @cached_property
    def _inner_function(self) -> _InnerFunction:
        return _InnerFunction(self.py_func, self.targetdescr, self.targetoptions, self.locals, _InnerCompiler)

    def _compilation_chain_init_hook(self) -> None:
        """Numba would look for extensions of the compiler; it does so anyway before it compiles."""

    @global_compiler_lock
    def compile(self, sig: Any) -> Any:
        args, _ = sigutils.normalize_signature(sig)
        known: Any = self.overloads.get(args)
        if Kernel._compiling:
            return self._compile_inner(args, known)
        if known is not None and isinstance(known.library, _InnerLibrary):
            del self.overloads[args]
        Kernel._compiling += 1
        try:
            return super().compile(args)
        finally:
            Kernel._compiling -= 1

    def add_overload(self, result: Any) -> None:
        super().add_overload(result)
        for environment in result._find_referenced_environments():
            result.library.codegen.set_env(environment.env_name, environment)

    def _compile_inner(self, args: tuple[Any, ...], known: Any) -> Any:
        """Compile for a kernel that calls this one; returns what the compiler knows the result by."""
        if known is not None and isinstance(known.library, _InnerLibrary):
            return known.entry_point
        with event.trigger_event("numba:compile", data={"dispatcher": self, "args": args, "return_type": None}):
            result = self._inner_function.compile(args, None)
        result = result._replace(entry_point=object())
        self.targetctx.insert_user_function(result.entry_point, result.fndesc, [result.library])
        self.overloads[args] = result
        return result.entry_point
