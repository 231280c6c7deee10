// The last scores of an asset against its limit, as a small picture.

import { make } from "./dom.js"

const SVG = "http://www.w3.org/2000/svg"
const WIDTH = 120
const HEIGHT = 28
const POINTS = 60

export class Sparkline {
  constructor() {
    this.element = document.createElementNS(SVG, "svg")
    this.element.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`)
    this.element.setAttribute("preserveAspectRatio", "none")
    this.element.setAttribute("class", "spark")
    this.element.setAttribute("role", "img")
    this.limit = document.createElementNS(SVG, "line")
    this.limit.setAttribute("class", "limit")
    this.limit.setAttribute("x2", WIDTH)
    this.limit.style.display = "none" // until it is drawn, which is when somebody can see it
    this.element.setAttribute("aria-label", "last scores")
    this.curve = document.createElementNS(SVG, "polyline")
    this.curve.setAttribute("class", "curve")
    this.element.append(this.limit, this.curve)
  }

  draw(points, threshold, label) {
    const top = Math.max(...points, threshold ?? -Infinity)
    const bottom = Math.min(0, ...points)
    const y = (value) => (HEIGHT - 2 - ((value - bottom) / (top - bottom || 1)) * (HEIGHT - 4)).toFixed(1)
    const step = WIDTH / (POINTS - 1)
    const drawn = points.length === 1 ? [...points, ...points] : points // a line through one point cannot be seen
    const first = POINTS - drawn.length
    this.curve.setAttribute("points", drawn.map((value, at) => `${((first + at) * step).toFixed(1)},${y(value)}`).join(" "))
    this.limit.style.display = threshold === null ? "none" : ""
    if (threshold !== null) {
      this.limit.setAttribute("y1", y(threshold))
      this.limit.setAttribute("y2", y(threshold))
    }
    this.element.setAttribute("aria-label", label)
  }
}

export const newPoints = (before, more) => [...before, ...more].slice(-POINTS)

export const cell = (spark) => make("td", {}, spark.element)
