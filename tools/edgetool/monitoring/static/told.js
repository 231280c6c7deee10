// What the server tells while it happens.

import { byId, setClass, write } from "./dom.js"
import { setClock, shown } from "./words.js"

// Calls `onChanges` with each message, whole or a change, and shows in the page's header whether we are still told.
// A page that may sleep is told nothing while nobody sees it, and the whole when it is seen again: a browser keeps six
// connections to one host, and somebody who opens seven alerts would see nothing in the seventh.
export function listen(asset, onChanges, { maySleep = true } = {}) {
  const state = byId("state")
  let source = null
  const say = (text, isLost) => {
    write(state, text)
    setClass(state, isLost ? "state lost" : "state")
  }
  const open = () => {
    source = new EventSource(asset === null ? "/events" : `/events?asset=${encodeURIComponent(asset)}`)
    source.onmessage = (message) => {
      const changes = JSON.parse(message.data)
      setClock(changes.now)
      const { connected, broker_problem: reason, history_problem: problem } = changes.figures
      if (!connected) say(`⚠ no connection to the broker${reason ? `: ${shown(reason)}` : ""}`, true)
      else if (problem) say("⚠ the history cannot be written", true)
      else say("● live", false)
      onChanges(changes)
    }
    // A browser tries again by itself, unless the answer was none of ours.
    source.onerror = () => {
      say("⚠ the dashboard does not answer", true)
      if (source?.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 10000)
    }
  }
  const look = () => {
    if (maySleep && document.hidden) {
      source?.close()
      source = null
    } else if (source === null) open()
  }
  document.addEventListener("visibilitychange", look)
  look()
}
