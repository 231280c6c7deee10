// One alert: its story, the readings around it, and what people say of it.

import { Chart } from "./chart.js"
import { byId, make, setClass, write } from "./dom.js"
import { lastName, save } from "./mark.js"
import { listen, setTitle } from "./told.js"
import { isAhead, length, level, levelClass, many, moment, number, percent, said, shown } from "./words.js"

const MOST_CHARTS = 16

const asked = new URLSearchParams(location.search)
const agent = asked.get("agent") ?? ""
const id = asked.get("id") ?? ""
let story = null
let isListening = false
// What the form was filled with. What differs from it was entered here.
let filled = { acknowledged: false, verdict: "", note: "" }
let evidenceRows = -1

const row = (...texts) => make("tr", {}, make("th", { scope: "row" }, texts[0]), ...texts.slice(1).map((text) => make("td", {}, text)))

function showFacts(alert) {
  const place = new URLSearchParams({ agent: alert.agent, stream: alert.stream, asset: alert.asset })
  const hasBounds = !isAhead(alert.until)
  const around = hasBounds ? Math.max(600, 4 * (alert.until - alert.raised)) : 3600
  place.set("length_s", String(Math.round(around)))
  if (alert.state !== "open" && hasBounds) place.set("end", String(alert.until + around / 4))
  const ended = { open: "not yet", unseen: "yes, while nobody listened" }[alert.state] ?? moment(alert.time)
  const facts = [["Raised", moment(alert.since)], ["Ended", ended], ["Lasted", length(alert.duration_s)],
    ["Worst", number(alert.worst)], ["Limit", number(alert.threshold)], ["Model", shown(alert.model)], ["Computed by", shown(alert.provider)],
    ["Told late", alert.delayed ? "yes" : "no"], ["Id", shown(alert.id)]]
  const link = make("a", { href: `asset?${place}` }, "its scores around that time")
  byId("facts").replaceChildren(...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]),
    make("dt", {}, "Curve"), make("dd", {}, link))
  write(byId("name"), `${level(alert.level)}: ${shown(alert.asset)}`)
  setClass(byId("name"), alert.state === "open" ? levelClass(alert.level) : "")
  write(byId("where"), `${shown(alert.agent)} / ${shown(alert.stream)}`)
  write(byId("said"), shown(alert.said))
  setTitle(`${shown(alert.asset)}: ${shown(alert.level)}`)
  byId("channels").tBodies[0].replaceChildren(...alert.channels.map((each) => row(shown(each.name), number(each.value), percent(each.share))))
}

function showEvents(events) {
  const what = (event) => {
    const parts = [event.level, `score ${number(event.score)}`, `limit ${number(event.threshold)}`]
    for (const each of event.channels.slice(0, 3)) parts.push(`${shown(each.name)} ${number(each.value)} (${percent(each.share)})`)
    if (event.delayed) parts.push("told late")
    if (event.reason) parts.push(shown(event.reason))
    return shown(parts.join(", "))
  }
  byId("events").tBodies[0].replaceChildren(...events.map((event) => row(shown(event.event), moment(event.time), what(event))))
}

// Each channel with its place in the rows: first those that had most to do with the alert, then the rest as they came.
function mostFirst(channels, alert) {
  const told = (alert?.channels ?? []).map((each) => each.name)
  const rank = (name) => (told.includes(name) ? told.indexOf(name) : told.length)
  return [...channels.entries()].sort(([, one], [, other]) => rank(one) - rank(other))
}

function showEvidence(evidence, alert) {
  const rows = evidence?.rows.length ?? 0
  if (rows === evidenceRows) return
  evidenceRows = rows
  byId("no-evidence").hidden = rows > 0
  byId("evidence").replaceChildren()
  if (rows === 0) return
  const times = evidence.rows.map((each) => Date.parse(each[0]) / 1000)
  const span = alert === null ? [] : [{ from: alert.raised, to: Math.min(Math.max(alert.until, alert.raised), times[times.length - 1]) }]
  const missing = evidence.missing ? `${many(evidence.missing, "part")} of these readings did not come. ` : ""
  const more = evidence.channels.length > MOST_CHARTS ? `The first ${MOST_CHARTS} of ${evidence.channels.length} sensors are drawn.` : ""
  byId("evidence").append(make("p", { class: "quiet" }, missing + more))
  for (const [at, name] of mostFirst(evidence.channels, alert).slice(0, MOST_CHARTS)) {
    const place = make("div", { class: "chart small", tabindex: "0", role: "group", "aria-label": `${shown(name)} over time` })
    byId("evidence").append(make("h3", {}, shown(name)), place)
    const chart = new Chart(place, [{ label: shown(name), stroke: "--curve", points: times.length < 100 }], { height: 160 })
    chart.show([times, evidence.rows.map((each) => each[at + 1])], span, null)
    place.chart = chart
  }
}

function entered() {
  const { acknowledged, verdict, note } = byId("mark").elements
  return { acknowledged: acknowledged.checked, verdict: verdict.value, note: note.value }
}

// Shows what people have said by now, also in the form, but for what was entered here and is not saved.
function fill(mark) {
  const form = byId("mark").elements
  const now = entered()
  if (now.acknowledged === filled.acknowledged) form.acknowledged.checked = mark.acknowledged
  if (now.verdict === filled.verdict) form.verdict.value = mark.verdict
  const isNoteOurs = now.note !== filled.note
  if (!isNoteOurs) form.note.value = mark.note
  // A browser writes the ends of lines its own way.
  filled = { acknowledged: mark.acknowledged, verdict: mark.verdict, note: isNoteOurs ? mark.note : form.note.value }
}

function showMark(mark) {
  write(byId("marked"), mark === null ? "Nobody has looked yet." : said(mark) + (mark.time ? ` (${moment(mark.time)})` : ""))
  byId("mark").elements.by.value ||= lastName()
  if (mark !== null) fill(mark)
}

async function fetchStory() {
  const answer = await fetch(`api/alert?${new URLSearchParams({ agent, id })}`)
  write(byId("problem"), answer.ok ? "" : shown(await answer.text()))
  if (!answer.ok) return listenTo(null)
  story = await answer.json()
  byId("known").hidden = false
  for (const section of document.querySelectorAll(".of-events")) section.hidden = story.alert === null
  if (story.alert === null) {
    write(byId("name"), `Alert ${shown(id)}`)
    write(byId("where"), shown(agent))
    write(byId("said"), "Its events were not heard here: it is older than this dashboard's history, or came while that was away.")
  } else showFacts(story.alert)
  showEvents(story.events)
  showEvidence(story.evidence, story.alert)
  showMark(story.mark)
  listenTo(story.alert)
}

// Of an alert that is not known here, only whether the dashboard answers is told.
function listenTo(alert) {
  if (isListening) return
  isListening = true
  let isFirst = true
  listen(alert === null ? "" : `${alert.agent}/${alert.stream}/${alert.asset}`, (changes) => {
    const isOurs = changes.alerts.some((each) => each.agent === agent && each.id === id)
    if (changes.whole ? !isFirst : isOurs) fetchStory()
    isFirst = false
  })
}

byId("mark").addEventListener("submit", async (event) => {
  event.preventDefault()
  // Only what was entered: somebody else may have said something meanwhile, which must not be taken back.
  const changed = Object.entries(entered()).filter(([name, value]) => value !== filled[name])
  const mark = { agent, id, by: event.target.elements.by.value, ...Object.fromEntries(changed) }
  write(byId("saved"), "saving …")
  try {
    fill(await save(mark))
    write(byId("saved"), "saved")
    fetchStory()
  } catch (error) {
    write(byId("saved"), `not saved: ${error.message}`)
  }
})

fetchStory()
// Readings come some time behind the raise.
setInterval(() => story !== null && (story.evidence === null || story.evidence.missing) && fetchStory(), 5000)
