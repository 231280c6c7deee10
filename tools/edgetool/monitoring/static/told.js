// What the server tells while it happens.

import { byId, setClass, write } from "./dom.js"

// Calls `onChanges` with each message, whole or a change, and shows in the page's header whether we are still told.
export function listen(asset, onChanges) {
  const state = byId("state")
  const source = new EventSource(asset === null ? "/events" : `/events?asset=${encodeURIComponent(asset)}`)
  const say = (text, isLost) => {
    write(state, text)
    setClass(state, isLost ? "state lost" : "state")
  }
  source.onmessage = (message) => {
    const changes = JSON.parse(message.data)
    const { connected, history_problem: problem } = changes.figures
    if (!connected) say("⚠ no connection to the broker", true)
    else if (problem) say("⚠ the history cannot be written", true)
    else say("● live", false)
    onChanges(changes)
  }
  // A browser tries again by itself, unless the answer was none of ours.
  source.onerror = () => {
    say("⚠ the dashboard does not answer", true)
    if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 10000)
  }
}
