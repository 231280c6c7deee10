// Numbers, times and names as a person reads them.

const LONGEST = 200
const LONGEST_IN_LIST = 40
const LONGEST_LEVEL = 12

const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text)

const escape = (sign) => `\\u{${sign.codePointAt(0).toString(16)}}`

// A name that anybody may have chosen: what is invisible, or turns the direction of writing, is escaped; of a name of
// nothing else but spaces, which nobody could see or click on, everything is.
export function shown(text) {
  const escaped = String(text).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, escape).replace(/^[\s\u2800\u115f\u1160\u3164\uffa0]+$/u, (all) => [...all].map(escape).join(""))
  return cut(escaped, LONGEST)
}

export function number(value) {
  if (value === null || value === undefined) return "–"
  if (value !== 0 && (Math.abs(value) >= 1e6 || Math.abs(value) < 1e-3)) return value.toExponential(2)
  return String(Number(value.toPrecision(4)))
}

export const many = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`

export const percent = (share) => `${Math.round(share * 100)}\u00a0%`

export function length(seconds) {
  if (seconds === null || seconds === undefined) return "–"
  if (seconds < 90) return `${Number(seconds.toPrecision(2))} s`
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h`
  return `${Math.round(seconds / 86400)} d`
}

const today = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" })
const hour = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" })
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" })
const anyDay = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
})

const AHEAD_SECONDS = 86400
let skewSeconds = 0

// What the time is by the dashboard's clock, epoch seconds; a phone's may be wrong.
export function setClock(now) {
  skewSeconds = now - Date.now() / 1000
}

// Whether a time, epoch seconds, is so far ahead of the clock that a sender's must be wrong.
export const isAhead = (seconds) => seconds > Date.now() / 1000 + skewSeconds + AHEAD_SECONDS

const OVERDUE_SECONDS = 300

// For how long no score of an asset has come, in words; empty where that is no longer than usual. Its last state is not its
// present one then.
export function ageOf(asset) {
  const seconds = Date.now() / 1000 + skewSeconds - asset.scored
  return asset.scored && seconds > Math.max(OVERDUE_SECONDS, 3 * asset.pause_s) ? `no score for ${length(seconds)}` : ""
}

// A text for the day or the hour of a time, epoch seconds, as short as it can be; seconds only where they are asked for.
export const shortDay = (time) => day.format(new Date(time * 1000))
export const shortTime = (time, hasSeconds) => (hasSeconds ? today : hour).format(new Date(time * 1000))

// Epoch seconds, or a text that is a time, in the reader's own zone.
export function moment(time) {
  const date = new Date(typeof time === "number" ? time * 1000 : time)
  if (Number.isNaN(date.getTime())) return shown(time)
  const text = (date.toDateString() === new Date().toDateString() ? today : anyDay).format(date)
  return isAhead(date.getTime() / 1000) ? `${text} (⚠ far ahead of the clock)` : text
}

const SIGNS = { alarm: "▲", warn: "△", drift: "≈", silent: "∅", stuck: "=" }

export const level = (name) => `${SIGNS[name] ?? "●"} ${cut(shown(name), LONGEST_LEVEL)}`

export const levelClass = (name) => (name === "alarm" ? "alarm" : "warn")

const VERDICTS = { true: "true: something was wrong", false: "false: nothing was wrong", known: "known cause, no fault" }

export function said(mark) {
  if (mark === null || mark === undefined) return ""
  const parts = []
  if (mark.acknowledged) parts.push("looked after")
  if (mark.verdict in VERDICTS) parts.push(VERDICTS[mark.verdict])
  const note = mark.note ? `“${shown(mark.note)}”` : ""
  const by = mark.by ? `by ${shown(mark.by)}` : ""
  return [parts.join(", "), by, note].filter(Boolean).join(" ")
}

export const channelsInWords = (channels, most) =>
  channels.slice(0, most).map((each) => `${cut(shown(each.name), LONGEST_IN_LIST)} ${number(each.value)} (${percent(each.share)})`).join(", ")
