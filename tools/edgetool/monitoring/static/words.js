// Numbers, times and names as a person reads them.

const LONGEST = 200

// A name that anybody may have chosen: what is invisible, or turns the direction of writing, is escaped.
export function shown(text) {
  const escaped = String(text).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (sign) => `\\u{${sign.codePointAt(0).toString(16)}}`)
  return escaped.length > LONGEST ? `${escaped.slice(0, LONGEST - 1)}…` : escaped
}

export function number(value) {
  if (value === null || value === undefined) return "–"
  if (value !== 0 && (Math.abs(value) >= 1e6 || Math.abs(value) < 1e-3)) return value.toExponential(2)
  return String(Number(value.toPrecision(4)))
}

export const percent = (share) => `${Math.round(share * 100)} %`

export function length(seconds) {
  if (seconds === null || seconds === undefined) return "–"
  if (seconds < 90) return `${Number(seconds.toPrecision(2))} s`
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h`
  return `${Math.round(seconds / 86400)} d`
}

const today = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" })
const anyDay = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
})

// Epoch seconds, or a text that is a time, in the reader's own zone.
export function moment(time) {
  const date = new Date(typeof time === "number" ? time * 1000 : time)
  if (Number.isNaN(date.getTime())) return shown(time)
  return (date.toDateString() === new Date().toDateString() ? today : anyDay).format(date)
}

const SIGNS = { alarm: "▲", warn: "△", drift: "≈", silent: "∅", stuck: "=" }

export const level = (name) => `${SIGNS[name] ?? "●"} ${shown(name)}`

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
  channels.slice(0, most).map((each) => `${shown(each.name)} ${number(each.value)} (${percent(each.share)})`).join(", ")
