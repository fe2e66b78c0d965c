"""The metadata of the distribution; tool settings are in ``pyproject.toml``."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent


def version() -> str:
    """Read ``__version__`` as text: what the package needs may not be installed yet."""
    source = (HERE / "spalloc_server" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', source, re.MULTILINE)
    if match is None:
        raise RuntimeError("spalloc_server/__init__.py has no __version__ line")
    return match.group(1)


def _files(folder: str) -> list[str]:
    """Name the files in a folder, relative to this one."""
    return sorted(f"{folder}/{path.name}" for path in (HERE / folder).iterdir())


setup(
    name="spalloc_server",
    version=version(),
    description="Shares SpiNNaker machines between the jobs of many users",
    long_description=(HERE / "README.rst").read_text(encoding="utf-8"),
    long_description_content_type="text/x-rst",
    license="Apache-2.0",
    platforms=["Linux"],
    keywords="spinnaker allocation partitioning server spalloc",
    classifiers=[
        "Development Status :: 5 - Production/Stable",
        "Environment :: No Input/Output (Daemon)",
        "Intended Audience :: Science/Research",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: System :: Distributed Computing",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    packages=find_packages(
        include=[
            "spalloc_server",
            "spalloc_server.*",
            "spalloc_server_gateway",
            "spalloc_server_gateway.*",
        ]
    ),
    package_data={
        "spalloc_server": ["py.typed"],
        "spalloc_server.web": ["static/*"],
        "spalloc_server_gateway": ["py.typed"],
    },
    # Made by contrib/generate.py.
    data_files=[
        ("share/man/man1", _files("contrib/man")),
        ("share/bash-completion/completions", _files("contrib/completion/bash")),
        ("share/zsh/site-functions", _files("contrib/completion/zsh")),
    ],
    install_requires=[
        # 7.4.1 is the release that the current official client pins, too.
        "SpiNNMan >= 1!7.4.1, < 1!8",
        "inotify_simple",
        "six",
    ],
    extras_require={
        "gateway": ["aiohttp >= 3.9", "prometheus_client >= 0.20"],
        "plot": ["matplotlib"],
        "web": ["aiohttp >= 3.9", "prometheus_client >= 0.20"],
    },
    entry_points={
        "console_scripts": [
            "spalloc_server = spalloc_server.__main__:main",
            "spalloc-server = spalloc_server.__main__:main",
            "spalloc_server_admin = spalloc_server.command_line.admin:main",
            "spalloc_server_gateway = spalloc_server_gateway.__main__:main",
            "spalloc_server_usage = spalloc_server.command_line.usage_report:main",
        ],
    },
    zip_safe=False,
)
