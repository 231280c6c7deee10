"""edge-agent: scores sensor readings on the device and publishes anomalies over MQTT."""

__all__ = ["__version__"]

__version__ = "0.1.0"
