// What somebody says of an alert.

import { shown } from "./words.js"

// Who said something here last.
export const lastName = () => localStorage.getItem("name") ?? ""

// Saves what somebody says; gives all that is said of the alert by now. What it throws tells why nothing was saved.
export async function save(mark) {
  localStorage.setItem("name", mark.by)
  let answer
  try {
    answer = await fetch("api/mark", { method: "POST", body: JSON.stringify(mark) })
  } catch {
    throw new Error("the dashboard does not answer")
  }
  if (!answer.ok) throw new Error(shown(await answer.text()))
  return answer.json()
}
