"""Builds the loadable extension, with ``vec0`` beside it, and the loops of models and searches.

They are ``sqlembed.so``, ``libbert.so`` and ``libcompare.so``. All else about the package is in
pyproject.toml. Where a C compiler or SQLite's headers are missing, they are left out with a
warning: the APSW door works all the same, and takes longer to embed and to search large indexes.
"""

import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

ROOT = Path(__file__).parent
SOURCES = ROOT / "sqlembed" / "extension"
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Wstrict-prototypes"]
FLAGS = ["-std=c11", "-O2", "-g0", "-fvisibility=hidden", "-fPIC", *WARNINGS]

sys.path.insert(0, str(ROOT))  # the list of functions comes from our own registry

THREADS = "-pthread"
COMPARE = Extension(
    "sqlembed.index.libcompare",
    sources=["sqlembed/index/compare.c"],
    extra_compile_args=[*FLAGS, "-O3", THREADS],
    extra_link_args=[THREADS],
    optional=True,
)
OPENMP = "-fopenmp"
BERT = Extension(
    "sqlembed.engine.libbert",
    sources=["sqlembed/engine/bert.c"],
    depends=["sqlembed/engine/bert_layers.h"],
    extra_compile_args=[*FLAGS, "-O3", "-ffp-contract=fast", OPENMP],
    extra_link_args=[OPENMP],
    libraries=["m"],
    optional=True,
)
EXTENSION = Extension(
    "sqlembed.extension.sqlembed",
    sources=[str(path.relative_to(ROOT)) for path in sorted(SOURCES.glob("*.c"))],
    extra_compile_args=FLAGS,
    optional=True,
)


class Build(build_ext):
    """Compile the C files against a header made from the functions that Python has."""

    def get_ext_filename(self, fullname: str) -> str:
        """``sqlembed.so``: no Python module, so without a version in its name."""
        return str(Path(*fullname.split(".")).with_suffix(".so"))

    def build_extension(self, ext: Extension) -> None:
        """Compile; the extension with functions.h, and vec0 beside it."""
        if ext is BERT:
            self.build_bert()
            return
        if ext is not EXTENSION:
            super().build_extension(ext)
            return
        import sqlite_vec

        from sqlembed.extension.generate import functions_h

        generated = Path(self.build_temp) / "sqlembed"
        generated.mkdir(parents=True, exist_ok=True)
        (generated / "functions.h").write_text(functions_h(), encoding="ascii")
        ext.include_dirs = [str(generated)]
        # Of headers setuptools knows nothing, and would keep what an older list was built into.
        ext.depends = [str(generated / "functions.h"), str(SOURCES / "sqlembed.h")]
        if self.editable_mode:
            command = Path(sys.executable).with_name("sqlembed")
            ext.define_macros = [("SQLEMBED_BUILT_COMMAND", f'"{command}"')]
        super().build_extension(ext)
        target = SOURCES if self.editable_mode else Path(self.get_ext_fullpath(ext.name)).parent
        vec0 = next(Path(f"{sqlite_vec.loadable_path()}{end}") for end in (".so", ".dylib"))
        copied = Path(shutil.copy(vec0, target / "vec0.so.new"))
        copied.replace(target / "vec0.so")  # whoever has loaded the old one keeps it

    def build_bert(self) -> None:
        """Compile it for many threads, or where the compiler has no OpenMP for one."""
        try:
            super().build_extension(BERT)
        except CompileError:
            BERT.extra_compile_args.remove(OPENMP)
            BERT.extra_link_args.remove(OPENMP)
            super().build_extension(BERT)


setup(ext_modules=[BERT, COMPARE, EXTENSION], cmdclass={"build_ext": Build})
