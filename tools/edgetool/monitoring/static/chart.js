// Curves over time, drawn by uPlot, with alerts as spans.

import uPlot from "/static/uplot/uPlot.esm.js"

const FEW_POINTS = 3

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
      scales: { x: { time: true, range: (_plot, from, to) => this.range ?? (from < to ? [from, to] : [from - 30, to + 30]) } },
      axes: [axis, { ...axis, size: 64 }],
      cursor: { drag: { x: true, y: false } },
      series: [{}, ...this.lines.map((line) => ({
        label: line.label,
        stroke: colour(line.stroke),
        width: line.width ?? 1.5,
        dash: line.dash,
        spanGaps: false,
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
