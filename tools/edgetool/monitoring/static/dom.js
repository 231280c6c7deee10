// Elements of text. Nothing here, and nowhere else in these pages, makes markup of a text: names come from anybody.

export const byId = (id) => document.getElementById(id)

// An element with attributes and children; a child is an element or a text.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  element.append(...children)
  return element
}

// Write only what differs: an equal text written again costs a layout, and a screen reader reads it out anew.
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text
}

export function setClass(element, name) {
  if (element.className !== name) element.className = name
}

// A body of a table whose rows are known by a key. `fill` writes a row's cells, `build` makes them once.
export class Rows {
  constructor(table, build) {
    this.body = table.tBodies[0]
    this.build = build
    this.rows = new Map()
  }

  // Shows these items in this order, and moves only rows that stand elsewhere. The focus stays where it is, also in a row
  // that moves.
  show(items, keyOf, fill) {
    const focused = this.body.contains(document.activeElement) ? document.activeElement : null
    const wanted = new Set()
    let next = this.body.firstElementChild
    for (const item of items) {
      const key = keyOf(item)
      wanted.add(key)
      let row = this.rows.get(key)
      if (row === undefined) {
        row = this.build(item)
        this.rows.set(key, row)
      }
      if (next !== row.element && next?.nextElementSibling === row.element) {
        this.body.append(next) // one row that goes down moves alone, and not all others up
        next = row.element
      }
      if (row.element === next) next = next.nextElementSibling
      else this.body.insertBefore(row.element, next)
      if (row.element.contains(focused)) focused.focus({ preventScroll: true })
      fill(row, item)
    }
    for (const [key, row] of this.rows) {
      if (wanted.has(key)) continue
      row.element.remove()
      row.gone?.()
      this.rows.delete(key)
    }
  }
}

// A table that is shown only when it has rows, and a word in its place.
export function showOrSay(table, word, hasRows) {
  table.hidden = !hasRows
  word.hidden = hasRows
}
