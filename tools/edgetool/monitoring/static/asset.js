// One asset: its scores against its limit over time, its alerts, and which sensors had most to do with it.

import { Chart } from "./chart.js"
import { byId, make, Rows, setClass, showOrSay, write } from "./dom.js"
import { listen, setTitle } from "./told.js"
import { ageOf, isAhead, length, level, levelClass, many, moment, number, percent, said, shown } from "./words.js"

const RANGES = [["10 min", 600], ["1 h", 3600], ["6 h", 21600], ["1 day", 86400], ["7 days", 604800], ["all", 0]]
const NEWEST = 50
const LOW = 3

const asked = new URLSearchParams(location.search)
const where = { agent: asked.get("agent") ?? "", stream: asked.get("stream") ?? "", asset: asked.get("asset") ?? "" }
const key = `${where.agent}/${where.stream}/${where.asset}`
let lengthSeconds = Number(asked.get("length_s") ?? 3600)
let end = asked.get("end")
let curve = null
let latest = null
// Whether the chart ends at a small multiple of the limit: beside a score a thousand times as high, nothing else is seen.
let isLow = false
// While nobody moves along the curve, the newest point is shown.
let isFollowing = true

write(byId("name"), shown(where.asset))
write(byId("where"), `${shown(where.agent)} / ${shown(where.stream)}`)
setTitle(shown(where.asset))

const chart = new Chart(byId("chart"), [
  { label: "highest", stroke: "--curve", width: 2 },
  { label: "last", stroke: "--other", width: 1 },
  { label: "limit", stroke: "--alarm", width: 1.5, dash: [6, 4] },
], { onCursor: moveTo })

// For a test, or anybody who wants the numbers: what is drawn.
byId("chart").chart = chart

const channelRows = new Rows(byId("channels"), () => {
  const cells = [make("th", { scope: "row" }), make("td", { class: "number" }), make("td", { class: "number" })]
  return { element: make("tr", {}, ...cells), cells }
})

const alertRows = new Rows(byId("alerts"), (alert) => {
  const link = make("a", { href: `alert?agent=${encodeURIComponent(alert.agent)}&id=${encodeURIComponent(alert.id)}` })
  const cells = [1, 2, 3, 4].map(() => make("td"))
  return { element: make("tr", {}, make("td", {}, link), ...cells), link, cells }
})

const valueRows = new Rows(byId("values").querySelector("table"), () => {
  const cells = [1, 2, 3, 4].map(() => make("td"))
  return { element: make("tr", {}, ...cells), cells }
})

function channelsAt(at) {
  return curve.channels[at].map(([name, share, value]) => ({ name, share, value }))
}

// A screen reader is told only of what is moved to.
function moveTo(at) {
  isFollowing = at === null
  byId("at").setAttribute("aria-live", isFollowing ? "off" : "polite")
  showAt(isFollowing && curve !== null ? curve.time.length - 1 : at)
}

function showAt(at) {
  if (at === null || curve === null || !(at in curve.time)) return
  const channels = channelsAt(at)
  const what = `${moment(curve.time[at])}: highest score ${number(curve.highest[at])}, limit ${number(curve.threshold[at])}, ${shown(curve.state[at])}`
  write(byId("at"), channels.length ? what : `${what}; no sensors were told`)
  channelRows.show(channels.map((each, number) => [number, each]), ([number]) => number, (row, [, each]) => {
    write(row.cells[0], shown(each.name))
    write(row.cells[1], number(each.value))
    write(row.cells[2], percent(each.share))
  })
  byId("channels").hidden = channels.length === 0
}

function showFacts() {
  const age = latest === null ? "" : ageOf(latest)
  const state = shown(latest?.state || "unknown")
  const facts = [["Score", number(latest?.highest)], ["Limit", number(latest?.threshold)], ["State", age ? `○ ${age}; ${state} before` : state],
    ["Last score", latest?.time ? moment(latest.time) : "none yet"], ["Muted", latest?.muted ? "yes" : "no"]]
  byId("facts").replaceChildren(...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]))
}

function showCurve() {
  if (isFollowing) showAt(curve.time.length - 1)
  const open = Date.now() / 1000
  const spans = curve.alerts.map((alert) => ({
    from: alert.raised, to: alert.state === "open" ? Math.max(alert.until, Math.min(curve.to, open)) : alert.until,
  }))
  const limit = Math.max(...curve.threshold.filter((each) => each !== null))
  byId("low").hidden = !(limit > 0 && limit < Infinity)
  chart.top = isLow && !byId("low").hidden ? LOW * limit : null
  chart.show([curve.time, curve.highest, curve.score, curve.threshold], spans, curve.to > curve.from ? [curve.from, curve.to] : null)
  alertRows.show(curve.alerts, (alert) => alert.id, (row, alert) => {
    write(row.link, level(alert.level))
    setClass(row.link, levelClass(alert.level))
    const ended = { open: "still open", unseen: "its end was not heard" }[alert.state] ?? `after ${length(alert.duration_s)}`
    for (const [at, text] of [moment(alert.since), ended, number(alert.worst), said(alert.mark) || "–"].entries()) write(row.cells[at], text)
  })
  showOrSay(byId("alerts"), byId("no-alerts"), curve.alerts.length > 0)
  const newest = curve.time.map((_, at) => at).slice(-NEWEST).reverse()
  valueRows.show(newest, (at) => curve.time[at], (row, at) => {
    const texts = [moment(curve.time[at]), number(curve.highest[at]), number(curve.threshold[at]), shown(curve.state[at])]
    for (const [column, text] of texts.entries()) write(row.cells[column], text)
  })
}

async function fetchCurve() {
  const question = new URLSearchParams({ ...where, length_s: String(lengthSeconds) })
  if (end !== null) question.set("end", end)
  const answer = await fetch(`api/curve?${question}`)
  write(byId("problem"), answer.ok ? "" : await answer.text())
  if (!answer.ok) return
  curve = await answer.json()
  showCurve()
  showDoubts()
}

// Anybody may ask for the page of any name.
function showDoubts() {
  const isKnown = latest !== null || curve.first !== null || curve.ahead > 0 || curve.alerts.length > 0
  byId("known").hidden = !isKnown
  write(byId("problem"), isKnown ? "" : "Nothing was heard here of such an asset.")
  byId("left-out").hidden = curve.ahead === 0
  write(byId("left-out"), `⚠ ${many(curve.ahead, "score")} not drawn: far ahead of the clock.`)
}

function append(asset) {
  if (curve === null || curve.thinned || end !== null || asset.spark.length === 0) return
  const last = curve.time.length ? curve.time[curve.time.length - 1] : -Infinity
  if (!(asset.at > last) || isAhead(asset.at)) return
  for (const name of ["score", "highest", "threshold", "clear", "state"]) curve[name].push(asset[name])
  curve.time.push(asset.at)
  curve.channels.push(asset.channels.slice(0, 5).map((each) => [each.name, each.share, each.value]))
  curve.to = Math.max(curve.to, asset.at)
  if (lengthSeconds) {
    curve.from = curve.to - lengthSeconds
    const gone = curve.time.findIndex((time) => time >= curve.from)
    for (const name of ["time", "score", "highest", "threshold", "clear", "state", "channels"]) curve[name].splice(0, gone)
  }
}

function takeAlert(alert) {
  if (curve === null) return
  curve.alerts = [alert, ...curve.alerts.filter((each) => each.id !== alert.id)]
}

for (const [name, seconds] of RANGES) {
  const button = make("button", { type: "button", "aria-pressed": String(seconds === lengthSeconds) }, name)
  button.addEventListener("click", () => {
    lengthSeconds = seconds
    end = null
    for (const each of byId("ranges").children) each.setAttribute("aria-pressed", String(each === button))
    fetchCurve()
  })
  byId("ranges").append(button)
}

byId("low").addEventListener("click", () => {
  isLow = !isLow
  byId("low").setAttribute("aria-pressed", String(isLow))
  if (curve !== null) showCurve()
})

let hadWhole = false

listen(key, (changes) => {
  for (const asset of changes.assets) latest = asset
  showFacts()
  if (changes.whole) {
    if (hadWhole || curve === null) fetchCurve()
    hadWhole = true
    return
  }
  if (changes.assets.length === 0 && changes.alerts.length === 0) return
  changes.assets.forEach(append)
  changes.alerts.forEach(takeAlert)
  if (curve === null) return
  showCurve()
  showDoubts()
})
// A thinned curve is drawn anew now and then, because a new point belongs to a group of neighbours.
setInterval(() => curve?.thinned && end === null && fetchCurve(), 30000)
