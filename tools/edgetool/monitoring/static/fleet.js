// The first page: open alerts, assets by what needs a person, agents.

import { byId, make, Rows, setClass, showOrSay, write } from "./dom.js"
import { alertKey, assetKey, compareAlerts, compareAssets, margin, need } from "./order.js"
import { cell, newPoints, Sparkline } from "./sparkline.js"
import { listen } from "./told.js"
import { channelsInWords, length, level, levelClass, many, moment, number, said, shown } from "./words.js"

const MOST_ROWS = 1000
const MOST_ENDED = 20
const ORDER_MS = 5000

const agents = new Map()
const assets = new Map()
const alerts = new Map()
let notices = []
let isFirst = true

const alertLink = (alert) =>
  `/alert?agent=${encodeURIComponent(alert.agent)}&id=${encodeURIComponent(alert.id)}`
const assetLink = (record) => `/asset?${new URLSearchParams({ agent: record.agent, stream: record.stream, asset: record.asset })}`

// A header of a row: the asset's name as a link, and below it whose it is.
function nameCell(record, link) {
  const where = make("span", { class: "where" }, `${shown(record.agent)} / ${shown(record.stream)}`)
  return make("th", { scope: "row" }, make("a", { href: link, title: shown(record.asset) }, shown(record.asset) || "(no name)"), where)
}

function cells(count, wide = []) {
  return Array.from({ length: count }, (_, at) => make("td", wide.includes(at) ? { class: "wide" } : {}))
}

const alertRows = new Rows(byId("alerts"), (alert) => {
  const [what, since, sensors, who] = cells(4, [1, 2])
  const link = make("a", { href: alertLink(alert) })
  const element = make("tr", {}, make("td", { class: "short" }, link), nameCell(alert, assetLink(alert)), what, since, sensors, who)
  return { element, link, what, since, sensors, who }
})

function fillAlert(row, alert) {
  write(row.link, level(alert.level))
  setClass(row.link, levelClass(alert.level))
  const remarks = [alert.delayed ? "delayed" : "", alert.shared_id ? "another agent's alert has this id" : ""].filter(Boolean)
  write(row.what, [shown(alert.said), ...remarks].join("; "))
  write(row.since, moment(alert.since))
  write(row.sensors, channelsInWords(alert.channels, 2))
  write(row.who, said(alert.mark) || "nobody yet")
}

const endedRows = new Rows(byId("ended"), (alert) => {
  const [worst, raised, lasted, verdict] = cells(4, [2])
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

function fillAgent(row, agent) {
  const isOnline = agent.state === "online"
  write(row.state, isOnline ? "● online" : `○ ${shown(agent.state)} (${shown(agent.reason)}) since ${moment(agent.since)}`)
  setClass(row.state, isOnline ? "well" : "warn")
  const inWords = Object.entries(agent.streams).map(([name, each]) =>
    `${shown(name)}: ${many(each.assets, "asset")}, ${many(each.active_alerts, "alert")}, ${shown(each.model.name)} ${shown(each.model.version)} ` +
    `on ${shown(each.provider)} (${shown(each.provider_reason)})`)
  const texts = inWords.join("\n")
  if (row.streams.dataset.text !== texts) {
    row.streams.dataset.text = texts
    row.streams.replaceChildren(...inWords.map((text) => make("div", {}, text)))
  }
  write(row.waiting, agent.queue_depth ? many(agent.queue_depth, "event") : "nothing")
  write(row.version, shown(agent.version))
  const problems = [...agent.problems.map(shown), agent.scores_left_out ? `${agent.scores_left_out} scores not shown: too many` : ""]
  write(row.problems, problems.filter(Boolean).join("; ") || "none")
  setClass(row.problems, agent.problems.length ? "warn" : "quiet")
}

function stateOf(asset, alert, isOnline) {
  if (alert !== undefined) return [`${level(alert.level)}${said(alert.mark) ? `, ${said(alert.mark)}` : ""}`, levelClass(alert.level)]
  if (asset.muted) return ["– muted", "quiet"]
  if (asset.state === "alarm") return ["▲ above the limit", "alarm"]
  if (asset.state === "silent") return ["∅ silent", "warn"]
  if (asset.state === "stuck") return ["= frozen values", "warn"]
  if (!isOnline) return ["○ its agent is away", "warn"]
  if (asset.state === "learning") return ["… learning its limit", "quiet"]
  return asset.time === "" ? ["no scores", "quiet"] : ["● normal", "well"]
}

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
    asset.need = need(asset, alert, isOnline)
    asset.margin = margin(asset)
    ;[asset.words, asset.look] = stateOf(asset, alert, isOnline)
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

// By their health, agents have alerts that no event told of: they began before this did, are muted, or are in a storm.
function notHeard(open) {
  let found = 0
  for (const agent of agents.values()) {
    if (agent.state !== "online") continue
    for (const [name, stream] of Object.entries(agent.streams)) {
      const heard = open.filter((alert) => alert.agent === agent.agent && alert.stream === name).length
      found += Math.max(0, stream.active_alerts - heard)
    }
  }
  return found
}

function show() {
  const all = [...alerts.values()]
  const open = all.filter((alert) => alert.state === "open").sort(compareAlerts)
  const ended = all.filter((alert) => alert.state !== "open").reverse().slice(0, MOST_ENDED)
  alertRows.show(open, alertKey, fillAlert)
  showOrSay(byId("alerts"), byId("no-alerts"), open.length > 0)
  const more = notHeard(open)
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
  document.title = open.length ? `(${open.length}) Fleet` : "Fleet"
  showNotices()
}

function compareAgents(one, other) {
  const isWell = (agent) => agent.state === "online" && agent.problems.length === 0
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

byId("find").addEventListener("input", showSoon)
listen(null, (changes) => {
  take(changes)
  showSoon()
}, { maySleep: false }) // its title tells of alerts where nobody sees the page
