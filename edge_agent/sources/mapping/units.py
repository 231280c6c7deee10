"""Units of measurement that plants use, and how one becomes another.

A small table: a general library for units takes more memory and time at the start than the rest of decoding.
"""

from __future__ import annotations

__all__ = ["between", "is_unit", "same"]

_KELVIN_AT_0_F = 459.67 * 5 / 9

_TABLE: dict[str, dict[str, float | tuple[float, float]]] = {
    "pressure": {
        "Pa": 1, "hPa": 1e2, "kPa": 1e3, "MPa": 1e6, "bar": 1e5, "mbar": 1e2, "psi": 6894.757293168361,
        "atm": 101325, "mmHg": 133.322387415, "inHg": 3386.389, "mmH2O": 9.80665, "inH2O": 249.08891,
    },
    "temperature": {"K": 1, "°C": (1, 273.15), "°F": (5 / 9, _KELVIN_AT_0_F)},
    "flow": {
        "m3/s": 1, "m3/min": 1 / 60, "m3/h": 1 / 3600, "l/s": 1e-3, "l/min": 1e-3 / 60, "l/h": 1e-3 / 3600,
        "ml/s": 1e-6, "ml/min": 1e-6 / 60, "gpm": 3.785411784e-3 / 60, "cfm": 0.028316846592 / 60,
    },
    "mass flow": {"kg/s": 1, "kg/min": 1 / 60, "kg/h": 1 / 3600, "g/s": 1e-3, "t/h": 1 / 3.6},
    "length": {"m": 1, "km": 1e3, "cm": 1e-2, "mm": 1e-3, "µm": 1e-6, "nm": 1e-9, "in": 0.0254, "ft": 0.3048},
    "speed": {"m/s": 1, "mm/s": 1e-3, "cm/s": 1e-2, "m/min": 1 / 60, "km/h": 1 / 3.6, "in/s": 0.0254, "ft/s": 0.3048},
    "rate": {"Hz": 1, "kHz": 1e3, "MHz": 1e6, "rpm": 1 / 60, "1/s": 1, "1/min": 1 / 60},
    "acceleration": {"m/s2": 1, "mm/s2": 1e-3, "gn": 9.80665, "mgn": 9.80665e-3},
    "mass": {"kg": 1, "g": 1e-3, "mg": 1e-6, "t": 1e3, "lb": 0.45359237},
    "force": {"N": 1, "kN": 1e3, "lbf": 4.4482216152605},
    "torque": {"Nm": 1, "kNm": 1e3, "lbf.ft": 1.3558179483314004},
    "power": {"W": 1, "mW": 1e-3, "kW": 1e3, "MW": 1e6, "hp": 745.6998715822702},
    "apparent power": {"VA": 1, "kVA": 1e3},
    "energy": {"J": 1, "kJ": 1e3, "MJ": 1e6, "Wh": 3600, "kWh": 3.6e6, "MWh": 3.6e9},
    "current": {"A": 1, "mA": 1e-3, "µA": 1e-6, "kA": 1e3},
    "voltage": {"V": 1, "mV": 1e-3, "µV": 1e-6, "kV": 1e3},
    "resistance": {"Ohm": 1, "mOhm": 1e-3, "kOhm": 1e3, "MOhm": 1e6},
    "volume": {"m3": 1, "l": 1e-3, "ml": 1e-6, "gal": 3.785411784e-3},
    "time": {"s": 1, "ms": 1e-3, "µs": 1e-6, "min": 60, "h": 3600, "d": 86400},
    "angle": {"rad": 1, "mrad": 1e-3, "°": 0.017453292519943295},
    "share": {"1": 1, "%": 1e-2, "ppm": 1e-6},
}  # fmt: skip
"""By quantity, the units with their size in the first one; with an offset where two zeros differ. Of the SI brochure
and NIST SP 811."""

_OTHER_SPELLINGS = {
    "C": "°C", "degC": "°C", "Cel": "°C", "Celsius": "°C", "F": "°F", "degF": "°F", "Fahrenheit": "°F", "Kelvin": "K",
    "um": "µm", "uA": "µA", "uV": "µV", "us": "µs", "micron": "µm", "L": "l", "litre": "l", "liter": "l",
    "sec": "s", "hr": "h", "deg": "°", "percent": "%", "Ω": "Ohm", "ohm": "Ohm", "kΩ": "kOhm", "MΩ": "MOhm",
    "N.m": "Nm", "N·m": "Nm", "1/min": "rpm", "U/min": "rpm", "min-1": "rpm", "m/s^2": "m/s2", "mm/s^2": "mm/s2",
}  # fmt: skip
_SIGNS = str.maketrans({"²": "2", "³": "3", "μ": "µ", " ": "", "⋅": "·"})
_BY_NAME = {
    name: (quantity, *(size if isinstance(size, tuple) else (size, 0.0)))
    for quantity, sizes in _TABLE.items()
    for name, size in sizes.items()
}


def _usual(name: str) -> str:
    """The spelling of the table, where it has the unit."""
    name = name.strip().translate(_SIGNS)
    name = _OTHER_SPELLINGS.get(name, name)
    if name in _BY_NAME:
        return name
    return name.replace("L", "l").replace("^", "").removesuffix(".")


def is_unit(name: str) -> bool:
    """True if the table has it."""
    return _usual(name) in _BY_NAME


def same(one: str, other: str) -> bool:
    """True if both name one unit, in whatever spelling."""
    return _usual(one) == _usual(other)


def between(given: str, wanted: str) -> tuple[float, float]:
    """How a value in one unit becomes one in another: (factor, offset), of value * factor + offset.

    Raises:
        ValueError: one is not in the table, or they are of two quantities.
    """
    if same(given, wanted):
        return 1.0, 0.0
    for name in (given, wanted):
        if not is_unit(name):
            raise ValueError(f"unit {name!r} is not known here; give scale and offset in its place")
    (quantity, factor, offset), (other, other_factor, other_offset) = (
        _BY_NAME[_usual(name)] for name in (given, wanted)
    )
    if quantity != other:
        raise ValueError(f"{given!r} is a {quantity}, and {wanted!r} a {other}")
    return factor / other_factor, (offset - other_offset) / other_factor
