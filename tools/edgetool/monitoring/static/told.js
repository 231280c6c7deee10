// What the server tells while it happens.

import { byId, setClass, write } from "./dom.js"
import { setClock, shown } from "./words.js"

const COUNT_MS = 5000

let title = document.title
let isLost = false

const showTitle = () => {
  const text = isLost ? `⚠ ${title}` : title
  if (document.title !== text) document.title = text
}

// Names the page. A sign before the name tells, also where nobody sees the page, that it may not be true any more.
export function setTitle(text) {
  title = text
  showTitle()
}

// Calls `onChanges` with each message, whole or a change, and shows in the page's header whether we are still told.
//
// A browser keeps six connections to one host, and somebody who opens seven pages would see nothing in the seventh. So a
// page is told nothing while nobody sees it, and the whole when it is seen again. One whose title counts open alerts gives
// `onCount`: of those, the one that was seen last is told on, and the others ask for the number now and then.
export function listen(asset, onChanges, { onCount = null } = {}) {
  const state = byId("state")
  const unseen = onCount === null ? null : new BroadcastChannel("edgetool-dashboard")
  let source = null
  const say = (text, lost) => {
    write(state, text)
    setClass(state, lost ? "state lost" : "state")
    isLost = lost
    showTitle()
  }
  const open = () => {
    source = new EventSource(asset === null ? "events" : `events?asset=${encodeURIComponent(asset)}`)
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
  const close = () => {
    source?.close()
    source = null
  }
  const look = () => {
    if (document.hidden && unseen === null) return close()
    if (document.hidden) unseen.postMessage("mine is the page that is told on")
    if (source === null) open()
  }
  const count = async () => {
    if (source !== null) return
    try {
      const { open: found, connected } = await (await fetch("api/open")).json()
      isLost = !connected
      onCount(found)
    } catch {
      isLost = true
    }
    showTitle()
  }
  if (unseen !== null) {
    unseen.onmessage = () => document.hidden && close()
    setInterval(count, COUNT_MS)
  }
  document.addEventListener("visibilitychange", look)
  look()
}
