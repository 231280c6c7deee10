// Curves over time, drawn by uPlot, with alerts as spans.

import uPlot from "./uplot/uPlot.esm.js"
import { moment, shortDay, shortTime } from "./words.js"

const FEW_POINTS = 3
const DAY_SECONDS = 86400
const PAUSES = 5

const dark = matchMedia("(prefers-color-scheme: dark)")

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()

// What is drawn below the curves: each alert over its time, with a line and a sign where it was raised.
function drawSpans(plot, spans) {
  const { ctx, bbox } = plot
  const ratio = devicePixelRatio
  ctx.save()
  ctx.beginPath()
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height)
  ctx.clip()
  for (const span of spans) {
    const from = plot.valToPos(span.from, "x", true)
    const to = Math.max(from + 2 * ratio, plot.valToPos(span.to, "x", true))
    ctx.fillStyle = colour("--span")
    ctx.fillRect(from, bbox.top, to - from, bbox.height)
    ctx.fillStyle = colour("--alarm")
    ctx.fillRect(from, bbox.top, ratio, bbox.height)
    ctx.font = `${12 * ratio}px system-ui, sans-serif`
    ctx.fillText("▲", from + 2 * ratio, bbox.top + 13 * ratio)
  }
  ctx.restore()
}

// Of times on the axis: the hour as the reader's language writes it, and the day below the first of each day.
function timesInWords(_plot, times, _axis, _space, step) {
  return times.map((time, at) => {
    const day = shortDay(time)
    if (step >= DAY_SECONDS) return day
    const text = shortTime(time, step < 60)
    return at > 0 && day === shortDay(times[at - 1]) ? text : `${text}\n${day}`
  })
}

// Where nothing came for several times the usual pause, nothing is known, and a line would claim that it was.
function pauses(plot, _line, first, last, ofMissing) {
  const times = plot.data[0]
  const steps = []
  for (let at = first + 1; at <= last; at++) steps.push(times[at] - times[at - 1])
  const usual = steps.toSorted((one, other) => one - other)[steps.length >> 1]
  const found = [...ofMissing]
  for (let at = first + 1; at <= last; at++) {
    if (times[at] - times[at - 1] <= PAUSES * usual) continue
    found.push([times[at - 1], times[at]].map((time) => Math.round(plot.valToPos(time, "x", true))))
  }
  return found.sort(([one], [other]) => one - other)
}

// A chart in an element. `lines` are {label, stroke (a colour's name), width, dash}, drawn in their order; `onCursor` is
// called with the index of the point at the pointer, or null.
export class Chart {
  constructor(place, lines, { height = 320, onCursor = () => {} } = {}) {
    this.place = place
    this.lines = lines
    this.height = height
    this.onCursor = onCursor
    this.columns = [[], ...lines.map(() => [])]
    this.spans = []
    this.range = null
    this.top = null // highest value that is drawn; null draws all
    dark.addEventListener("change", () => this.make())
    new ResizeObserver(() => this.resize()).observe(place)
    place.addEventListener("keydown", (event) => this.onKey(event))
    this.make()
  }

  make() {
    this.plot?.destroy()
    const axis = { stroke: () => colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } }
    this.plot = new uPlot({
      width: this.place.clientWidth || 600,
      height: this.height,
      scales: {
        x: { time: true, range: (_plot, from, to) => this.range ?? (from < to ? [from, to] : [from - 30, to + 30]) },
        y: { range: (_plot, from, to) => (this.top === null ? from === null ? [null, null] : uPlot.rangeNum(from, to, 0.1, true) : [Math.min(0, from), this.top]) },
      },
      axes: [{ ...axis, space: 90, values: timesInWords }, { ...axis, size: 64 }],
      cursor: { drag: { x: true, y: false } },
      series: [{ value: (_plot, time) => (time === null ? "–" : moment(time)) }, ...this.lines.map((line) => ({
        label: line.label,
        stroke: colour(line.stroke),
        width: line.width ?? 1.5,
        dash: line.dash,
        spanGaps: false,
        gaps: pauses,
        // A line through one point cannot be seen.
        points: { show: line.points ?? ((plot) => plot.data[0].length < FEW_POINTS) },
      }))],
      hooks: {
        drawClear: [(plot) => drawSpans(plot, this.spans)],
        setCursor: [(plot) => this.onCursor(plot.cursor.idx ?? null)],
      },
    }, this.columns, this.place)
  }

  // `columns` is times in epoch seconds and one column of values for each line; null is no value.
  show(columns, spans, range) {
    this.columns = columns
    this.spans = spans
    this.range = range
    this.plot.setData(columns)
  }

  resize() {
    const width = this.place.clientWidth
    if (width && width !== this.plot.width) this.plot.setSize({ width, height: this.height })
  }

  // The arrow keys move the cursor from point to point, with Shift by ten.
  onKey(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key]
    const count = this.columns[0].length
    if (steps === undefined || count === 0) return
    event.preventDefault()
    const before = this.at ?? (steps < 0 ? count : -1)
    this.at = Math.min(Math.max(before + steps * (event.shiftKey ? 10 : 1), 0), count - 1)
    this.plot.setCursor({ left: this.plot.valToPos(this.columns[0][this.at], "x"), top: 10 })
    this.onCursor(this.at)
  }
}
