// What needs a person first. Pure: of records as the server tells them.

const LEVELS = ["alarm", "stuck", "silent", "warn", "drift"]

const levelRank = (level) => (LEVELS.indexOf(level) + LEVELS.length) % LEVELS.length

export const assetKey = (record) => `${record.agent}/${record.stream}/${record.asset}`
export const alertKey = (alert) => `${alert.agent}/${alert.id}`

const isSettled = (alert) => alert.mark !== null && alert.mark !== undefined && (alert.mark.acknowledged || alert.mark.verdict !== "")

// Alerts that nobody looks after, then the worst level, then the newest.
export function compareAlerts(one, other) {
  return isSettled(one) - isSettled(other) || levelRank(one.level) - levelRank(other.level) || other.raised - one.raised
}

// How far a score is above its limit, in parts of the limit; negative below.
export function margin(asset) {
  if (asset.highest === null || asset.threshold === null) return -Infinity
  return (asset.highest - asset.threshold) / (Math.abs(asset.threshold) || 1)
}

// Small numbers first. `alert` is the asset's first open alert, or undefined; `isOverdue`: a score of it should have come.
export function need(asset, alert, agentIsOnline, isOverdue) {
  if (alert !== undefined) return isSettled(alert) ? 10 + levelRank(alert.level) : levelRank(alert.level)
  if (asset.muted) return 50
  if (["alarm", "silent", "stuck"].includes(asset.state)) return 20
  if (!agentIsOnline) return 30
  if (isOverdue) return 35
  return asset.threshold === null ? 45 : 40
}

export function compareAssets(one, other) {
  return one.need - other.need || other.margin - one.margin || (one.key < other.key ? -1 : one.key > other.key ? 1 : 0)
}
