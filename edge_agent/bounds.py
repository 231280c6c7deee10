"""Types of settings: what a value may be, and the words that tell it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

__all__ = [
    "Assets",
    "Count",
    "Duration",
    "Keepalive",
    "Limit",
    "Megabytes",
    "Name",
    "Port",
    "Providers",
    "Qos",
    "Scores",
    "Seconds",
    "Text",
    "Threads",
    "UrlPath",
    "Whole",
]

# A name becomes one level of a topic, so it must not hold what MQTT gives a meaning to.
Name = Annotated[
    str,
    Meta(pattern=r"^[^/+#\s\x00]{1,64}\Z", description="a name of 1 to 64 characters without '/', '+', '#' or spaces"),
]
Text = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]{1,4096}\Z", description="a text without control characters")]
Port = Annotated[int, Meta(ge=1, le=65535, description="an integer from 1 to 65535")]
Qos = Annotated[int, Meta(ge=0, le=1, description="0 or 1")]
Threads = Annotated[int, Meta(ge=1, le=64, description="an integer from 1 to 64")]
Count = Annotated[int, Meta(ge=1, le=64, description="an integer from 1 to 64")]
Whole = Annotated[int, Meta(ge=0, le=10_000, description="an integer from 0 to 10000")]
Scores = Annotated[int, Meta(ge=0, le=10_000_000, description="an integer from 0 to 10000000")]
Assets = Annotated[int, Meta(ge=0, le=10_000_000, description="an integer from 0 to 10000000; 0 sets no limit")]
Megabytes = Annotated[float, Meta(ge=0, le=1_000_000, description="a number of megabytes from 0 to 1000000")]
Limit = Annotated[float, Meta(gt=0, description="a number above 0")]
Seconds = Annotated[float, Meta(gt=0, le=86400, description="a number of seconds above 0, at most 86400")]
Duration = Annotated[float, Meta(ge=0, le=31_536_000, description="a number of seconds from 0 to 31536000 (a year)")]
Keepalive = Annotated[int, Meta(ge=5, le=3600, description="an integer number of seconds from 5 to 3600")]
UrlPath = Annotated[
    str, Meta(pattern=r"^/[\x21-\x7e]{0,2000}\Z", description="a path that begins with '/', without spaces")
]
Providers = Annotated[tuple[Text, ...], Meta(description="a list of provider names")]
