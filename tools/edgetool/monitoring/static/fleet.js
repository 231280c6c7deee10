// The first page: open alerts, assets by what needs a person, agents.

import { byId, make, Rows, setClass, showOrSay, write } from "./dom.js"
import { lastName, save } from "./mark.js"
import { alertKey, assetKey, compareAlerts, compareAssets, margin, need } from "./order.js"
import { cell, newPoints, Sparkline } from "./sparkline.js"
import { listen, setTitle } from "./told.js"
import { ageOf, channelsInWords, length, level, levelClass, many, moment, number, said, shown } from "./words.js"

const MOST_ROWS = 1000
const MOST_ENDED = 20
const ORDER_MS = 5000

const agents = new Map()
const assets = new Map()
const alerts = new Map()
let notices = []
let isFirst = true

const alertLink = (alert) =>
  `alert?agent=${encodeURIComponent(alert.agent)}&id=${encodeURIComponent(alert.id)}`
const assetLink = (record) => `asset?${new URLSearchParams({ agent: record.agent, stream: record.stream, asset: record.asset })}`

// A header of a row: the asset's name as a link, and below it whose it is.
function nameCell(record, link) {
  const where = make("span", { class: "where" }, `${shown(record.agent)} / ${shown(record.stream)}`)
  return make("th", { scope: "row" }, make("a", { href: link, title: shown(record.asset) }, shown(record.asset) || "(no name)"), where)
}

function cells(count, wide = []) {
  return Array.from({ length: count }, (_, at) => make("td", wide.includes(at) ? { class: "wide" } : {}))
}

const alertRows = new Rows(byId("alerts"), (alert) => {
  const [about, since, sensors, who] = cells(4, [1, 2])
  const link = make("a", { href: alertLink(alert) })
  const what = make("span")
  const sinceBelow = make("span", { class: "narrow" })
  about.append(what, sinceBelow)
  const looks = make("span")
  const take = make("button", { type: "button" }, "I look after it")
  who.append(looks, " ", take)
  const element = make("tr", {}, make("td", { class: "short" }, link), nameCell(alert, assetLink(alert)), about, since, sensors, who)
  const row = { element, link, what, since, sinceBelow, sensors, looks, take, alert: null }
  take.addEventListener("click", () => lookAfter(row.alert))
  return row
})

async function lookAfter(alert) {
  const by = byId("by")
  if (!by.reportValidity()) return write(byId("looked"), "Your name first: others see who looks.")
  const about = `${shown(alert.asset)} of ${shown(alert.agent)}`
  write(byId("looked"), `${about}: saving …`)
  try {
    const mark = await save({ agent: alert.agent, id: alert.id, by: by.value, acknowledged: true })
    write(byId("looked"), `${about}: ${said(mark)}`)
  } catch (error) {
    write(byId("looked"), `${about}: not saved: ${error.message}`)
  }
}

// An alert tells of a raise, and may have no more to tell for hours; how it is by now, the scores say.
function now(alert) {
  const asset = assets.get(assetKey(alert))
  const isOfScores = alert.level === "alarm" || alert.level === "warn"
  return isOfScores && asset?.scored && !ageOf(asset) ? `, now ${number(asset.highest)}` : ""
}

function fillAlert(row, alert) {
  write(row.link, level(alert.level))
  setClass(row.link, levelClass(alert.level))
  const remarks = [alert.delayed ? "delayed" : "", alert.shared_id ? "another agent's alert has this id" : ""].filter(Boolean)
  write(row.what, [shown(alert.said) + now(alert), ...remarks].join("; "))
  write(row.since, moment(alert.since))
  write(row.sinceBelow, `since ${moment(alert.since)}`)
  write(row.sensors, channelsInWords(alert.channels, 2))
  write(row.looks, said(alert.mark) || "nobody yet")
  const isTaken = alert.mark?.acknowledged === true
  if (isTaken && document.activeElement === row.take) row.link.focus({ preventScroll: true })
  row.take.hidden = isTaken
  if (row.alert === alert) return
  row.alert = alert
  const which = `${shown(alert.level)} of ${shown(alert.asset)}, ${shown(alert.agent)} / ${shown(alert.stream)}`
  row.take.setAttribute("aria-label", `I look after it: ${which}`)
}

const endedRows = new Rows(byId("ended"), (alert) => {
  const [worst, raised, lasted, verdict] = cells(4, [2])
  worst.className = "number"
  const link = make("a", { href: alertLink(alert) })
  const element = make("tr", {}, make("td", {}, link), nameCell(alert, assetLink(alert)), worst, raised, lasted, verdict)
  return { element, link, worst, raised, lasted, verdict }
})

function fillEnded(row, alert) {
  write(row.link, level(alert.level))
  write(row.worst, number(alert.worst))
  write(row.raised, moment(alert.since))
  write(row.lasted, alert.state === "unseen" ? "its end was not heard" : length(alert.duration_s))
  write(row.verdict, said(alert.mark) || "–")
}

// Pictures are drawn only where they can be seen.
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const row = assetRows.rows.get(entry.target.dataset.key)
    if (row === undefined) continue
    row.isSeen = entry.isIntersecting
    if (row.isSeen) drawSpark(row)
  }
}, { rootMargin: "200px" })

const assetRows = new Rows(byId("assets"), (asset) => {
  const [state, score, limit, last] = cells(4, [2, 3])
  score.className = "number"
  limit.className = "number wide"
  const spark = new Sparkline()
  const element = make("tr", {}, nameCell(asset, assetLink(asset)), state, score, limit, cell(spark), last)
  element.dataset.key = asset.key
  seen.observe(element)
  return { element, state, score, limit, last, spark, isSeen: false, drawn: null, gone: () => seen.unobserve(element) }
})

function fillAsset(row, asset) {
  row.asset = asset
  write(row.state, asset.words)
  setClass(row.state, asset.look)
  write(row.score, number(asset.highest))
  write(row.limit, number(asset.threshold))
  if (row.isSeen) drawSpark(row)
  write(row.last, asset.time === "" ? "no scores" : moment(asset.time))
}

function drawSpark(row) {
  const { asset } = row
  if (asset.spark === row.drawn) return
  row.drawn = asset.spark
  row.spark.draw(asset.spark, asset.threshold, `last scores, now ${number(asset.highest)}, limit ${number(asset.threshold)}`)
}

const agentRows = new Rows(byId("agents"), (agent) => {
  const [state, streams, waiting, version, problems] = cells(5, [2, 3])
  const element = make("tr", {}, make("th", { scope: "row" }, shown(agent.agent)), state, streams, waiting, version, problems)
  return { element, state, streams, waiting, version, problems }
})

const hasProblem = (agent) => agent.problems.length > 0 || agent.skew_s !== 0

function fillAgent(row, agent) {
  const isOnline = agent.state === "online"
  const since = agent.since ? `since ${moment(agent.since)}` : agent.health_time ? `last heard ${moment(agent.health_time)}` : ""
  write(row.state, isOnline ? "● online" : `○ ${shown(agent.state)} ${agent.reason ? `(${shown(agent.reason)}) ` : ""}${since}`)
  setClass(row.state, isOnline ? "well" : "warn")
  const inWords = Object.entries(agent.streams).map(([name, each]) =>
    [`${shown(name)}: ${many(each.assets, "asset")}, ${many(openIn(agent, name), "alert")}, ${shown(each.model.name)} ${shown(each.model.version)} ` +
    `on ${shown(each.provider)}`, ` (${shown(each.provider_reason)})`])
  const texts = inWords.map((each) => each.join("")).join("\n")
  if (row.streams.dataset.text !== texts) {
    row.streams.dataset.text = texts
    row.streams.replaceChildren(...inWords.map(([text, why]) => make("div", {}, text, make("span", { class: "wide quiet" }, why))))
  }
  write(row.waiting, agent.queue_depth ? many(agent.queue_depth, "event") : "nothing")
  write(row.version, shown(agent.version))
  const skew = agent.skew_s ? `clock: ${length(Math.abs(agent.skew_s))} ${agent.skew_s > 0 ? "ahead of" : "behind"} the dashboard's` : ""
  const problems = [skew, ...agent.problems.map(shown), agent.scores_left_out ? `${agent.scores_left_out} scores not shown: too many` : ""]
  write(row.problems, problems.filter(Boolean).join("; ") || "none")
  setClass(row.problems, hasProblem(agent) ? "warn" : "quiet")
}

function stateOf(asset, alert, isOnline, age) {
  if (alert !== undefined) return [`${level(alert.level)}${said(alert.mark) ? `, ${said(alert.mark)}` : ""}`, levelClass(alert.level)]
  if (asset.muted) return ["– muted", "quiet"]
  if (asset.state === "alarm") return [`▲ above the limit${age ? `, ${age}` : ""}`, "alarm"]
  if (asset.state === "silent") return ["∅ silent", "warn"]
  if (asset.state === "stuck") return ["= frozen values", "warn"]
  if (!isOnline) return ["○ its agent is away", "warn"]
  if (age) return [`○ ${age}`, isLeftOut(asset) ? "quiet" : "warn"]
  if (asset.state === "learning") return ["… learning its limit", "quiet"]
  return asset.time === "" ? ["no scores", "quiet"] : ["● normal", "well"]
}

// Where an agent has more assets than it may tell of, an asset of which nothing comes is no news.
const isLeftOut = (asset) => (agents.get(asset.agent)?.scores_left_out ?? 0) > 0

function sortedAssets(open) {
  const first = new Map()
  for (const alert of open) {
    const key = assetKey(alert)
    if (!first.has(key)) first.set(key, alert)
  }
  const words = byId("find").value.toLowerCase().split(/\s+/).filter(Boolean)
  const found = []
  for (const asset of assets.values()) {
    if (!words.every((word) => asset.text.includes(word))) continue
    const alert = first.get(asset.key)
    const isOnline = agents.get(asset.agent)?.state !== "offline"
    const age = ageOf(asset)
    asset.need = need(asset, alert, isOnline, age !== "" && !isLeftOut(asset))
    asset.margin = margin(asset)
    ;[asset.words, asset.look] = stateOf(asset, alert, isOnline, age)
    found.push(asset)
  }
  return found.sort(compareAssets)
}

let order = []
let orderedAt = 0
let needs = ""

// Rows that change places all the time are read by nobody: they do when what they need changes, and else now and then.
function listedOf(sorted) {
  const first = sorted.slice(0, MOST_ROWS)
  const now = performance.now()
  const found = first.map((asset) => `${asset.need}${asset.key}`).sort().join()
  // A row must not move away from under a keyboard, so the order waits while one of them has the focus.
  const isHeld = byId("assets").tBodies[0].contains(document.activeElement)
  if (!isHeld && (found !== needs || now - orderedAt > ORDER_MS)) {
    order = first.map((asset) => asset.key)
    orderedAt = now
    needs = found
  }
  return order.map((key) => assets.get(key)).filter((asset) => asset?.words !== undefined)
}

const streamKey = (record) => `${record.agent}/${record.stream}`
let heardIn = new Map()

// By its last health, a stream has alerts that no event told of: they began before this did, are muted, or are in a storm.
// Of what has come since, only the events tell.
const notHeard = (agent, name) =>
  Math.max(0, Math.min(agent.unheard[name] ?? 0, agent.streams[name].active_alerts - (heardIn.get(`${agent.agent}/${name}`) ?? 0)))

const openIn = (agent, name) => (heardIn.get(`${agent.agent}/${name}`) ?? 0) + notHeard(agent, name)

function allNotHeard() {
  let found = 0
  for (const agent of agents.values()) {
    if (agent.state !== "online") continue
    for (const name of Object.keys(agent.streams)) found += notHeard(agent, name)
  }
  return found
}

function show() {
  const all = [...alerts.values()]
  const open = all.filter((alert) => alert.state === "open").sort(compareAlerts)
  const ended = all.filter((alert) => alert.state !== "open").reverse().slice(0, MOST_ENDED)
  alertRows.show(open, alertKey, fillAlert)
  showOrSay(byId("alerts"), byId("no-alerts"), open.length > 0)
  byId("look").hidden = open.length === 0
  heardIn = new Map()
  for (const alert of open) heardIn.set(streamKey(alert), (heardIn.get(streamKey(alert)) ?? 0) + 1)
  const more = allNotHeard()
  byId("not-heard").hidden = more === 0
  write(byId("not-heard"), `! ${more} more ${more === 1 ? "is" : "are"} open by the agents' health: begun before this did, muted, or in a storm.`)
  endedRows.show(ended, alertKey, fillEnded)
  showOrSay(byId("ended"), byId("no-ended"), ended.length > 0)
  const sorted = sortedAssets(open)
  const listed = listedOf(sorted)
  assetRows.show(listed, (asset) => asset.key, fillAsset)
  write(byId("shown"), sorted.length > listed.length ? `${listed.length} of ${sorted.length} are shown` : `${sorted.length}`)
  byId("no-scores").hidden = [...assets.values()].some((asset) => asset.time !== "") || agents.size === 0
  agentRows.show([...agents.values()].sort(compareAgents), (agent) => agent.agent, fillAgent)
  const online = [...agents.values()].filter((agent) => agent.state === "online").length
  write(byId("summary"), `${many(open.length, "open alert")}, ${many(assets.size, "asset")}, ${online} of ${many(agents.size, "agent")} online`)
  showCount(open.length)
  showNotices()
}

const showCount = (open) => setTitle(open ? `(${open}) Fleet` : "Fleet")

function compareAgents(one, other) {
  const isWell = (agent) => agent.state === "online" && !hasProblem(agent)
  return isWell(one) - isWell(other) || (one.agent < other.agent ? -1 : 1)
}

let noticesShown = null

function showNotices() {
  if (notices === noticesShown) return
  noticesShown = notices
  const inWords = (notice) => `${moment(notice.time)} ${shown(notice.agent)} / ${shown(notice.stream)}: ${shown(notice.text)}`
  byId("notices").replaceChildren(...notices.toReversed().map((notice) => make("li", {}, inWords(notice))))
  byId("no-notices").hidden = notices.length > 0
}

function announce(alert) {
  const text = `${level(alert.level)}: ${shown(alert.asset)} of ${shown(alert.agent)}, ${shown(alert.said)}`
  const news = byId("news")
  news.append(make("span", {}, `New alert, ${text}. `))
  while (news.childElementCount > 5) news.firstElementChild.remove()
}

function take(changes) {
  if (changes.whole) {
    for (const kept of [agents, assets, alerts]) kept.clear()
    notices = []
  }
  for (const name of changes.gone) {
    for (const kept of [agents, assets]) kept.delete(name)
  }
  for (const key of changes.gone_alerts) alerts.delete(key)
  for (const agent of changes.agents) agents.set(agent.agent, agent)
  for (const asset of changes.assets) {
    asset.key = assetKey(asset)
    const before = assets.get(asset.key)
    asset.text = `${asset.asset} ${asset.stream} ${asset.agent}`.toLowerCase()
    if (before !== undefined) asset.spark = asset.spark.length ? newPoints(before.spark, asset.spark) : before.spark
    assets.set(asset.key, asset)
  }
  for (const alert of changes.alerts) {
    const key = alertKey(alert)
    if (!isFirst && alert.state === "open" && alerts.get(key)?.state !== "open") announce(alert)
    alerts.delete(key)
    alerts.set(key, alert)
  }
  const ended = [...alerts.values()].filter((alert) => alert.state !== "open")
  for (const alert of ended.slice(0, -100)) alerts.delete(alertKey(alert))
  if (changes.notices.length) notices = [...notices, ...changes.notices].slice(-30)
  isFirst = false
}

let isWaiting = false

function showSoon() {
  if (isWaiting) return
  isWaiting = true
  const run = () => {
    if (!isWaiting) return
    isWaiting = false
    show()
  }
  // A page that is not seen has no frames, also where it was seen as it asked for one, and its title is still to tell of
  // alerts.
  requestAnimationFrame(run)
  setTimeout(run, 500)
}

byId("by").value = lastName()
byId("find").addEventListener("input", showSoon)
listen(null, (changes) => {
  take(changes)
  showSoon()
}, { onCount: showCount })
