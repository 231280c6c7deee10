"""Home Assistant's core with its own MQTT integration, as a process of its own, for `make test-homeassistant`.

Writes a line of JSON with the states of all entities whenever they have changed, and ends with its standard input.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from homeassistant import config_entries, core, loader
from homeassistant.auth import auth_manager_from_config
from homeassistant.config_entries import ConfigEntry
from homeassistant.helpers import (
    area_registry,
    category_registry,
    device_registry,
    entity,
    entity_registry,
    floor_registry,
    frame,
    issue_registry,
    label_registry,
    template,
    translation,
)

REGISTRIES = (
    area_registry, category_registry, device_registry, entity_registry, floor_registry, issue_registry, label_registry,
)  # fmt: skip


async def begin(folder: str, port: int) -> core.HomeAssistant:
    """As much of its start as an integration needs, and the integration."""
    hass = core.HomeAssistant(folder)
    hass.config.skip_pip = True
    loader.async_setup(hass)
    hass.config_entries = config_entries.ConfigEntries(hass, {})
    hass.auth = await auth_manager_from_config(hass, [], [])
    for part in (entity, frame, template, translation):
        part.async_setup(hass)
    for registry in REGISTRIES:
        try:
            await registry.async_load(hass)
        except AssertionError:  # it is made already, and empty
            await registry.async_get(hass).async_load()
    await hass.config_entries.async_initialize()
    # What it depends on: a server, which nobody asks here.
    hass.config.components |= {"http", "file_upload"}
    entry = ConfigEntry(
        version=1,
        minor_version=2,
        domain="mqtt",
        title="mqtt",
        data={"broker": "127.0.0.1", "port": port, "discovery": True},
        options={},
        source="user",
        unique_id=None,
        discovery_keys={},
        subentries_data=None,
    )
    await hass.config_entries.async_add(entry)
    hass.set_state(core.CoreState.running)
    return hass


async def main(folder: str, port: int) -> None:
    hass = await begin(folder, port)
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    told = None
    while not ended.done():
        devices = device_registry.async_get(hass).devices.values()
        now = {
            "states": {state.entity_id: state.state for state in hass.states.async_all()},
            "devices": sorted(str(device.name) for device in devices),
        }
        if now != told:
            told = now
            print(json.dumps(now), flush=True)
        await asyncio.sleep(0.1)
    await hass.async_stop(force=True)


with tempfile.TemporaryDirectory() as made:
    Path(made, "configuration.yaml").touch()
    asyncio.run(main(made, int(sys.argv[1])))
