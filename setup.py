"""What a wheel carries; the rest is said in pyproject.toml.

The bundled models lie in assets/ of a checkout. A wheel has them inside of the engine, as engine/assets/NAME, where
`engine.models.table` looks first. Tests, training and experiments stay out.
"""

from pathlib import Path

from setuptools import find_packages, setup

ASSETS = Path(__file__).parent / "assets"
BUNDLED = sorted(row.parent.name for row in ASSETS.glob("*/model.json"))

setup(
    packages=[*find_packages(include=["engine*", "gmi_ui*"]), "engine.assets"],
    package_dir={"engine.assets": "assets"},
    package_data={
        "": ["*.css", "*.html", "*.js", "*.json", "*.png"],
        "engine.assets": [f"{name}/*" for name in (*BUNDLED, "lab")],
    },
    include_package_data=False,
)
