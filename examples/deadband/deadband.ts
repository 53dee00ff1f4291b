// Lets a reading through only when it differs enough from the last one that was let through: less traffic from a noisy
// sensor.
//
// In:  plant/{line}/pressure          1013.2
// Out: plant/{line}/pressure/changed  1013.2     when it is the first, or moved by the setting "band" or more
//
// State: v/<line> = the reading that was let through last, as text.

import { Event, State, because, config, publishText, DONE, REJECT, QOS1 } from "../../sdk/assemblyscript/mayfly";

export function mayfly_handle(): i32 {
  const line = Event.attr("topic.line");
  if (line == null) return because(REJECT, "the topic names no line");
  const reading = Event.text().trim();
  const value = parseFloat(reading);
  if (!isFinite(value)) return because(REJECT, "the reading is not a number");
  const setting = config("band");
  const band = setting == null ? 0.5 : parseFloat(setting);
  if (!(band >= 0)) return because(REJECT, "the setting band is not a number from 0");

  const key = "v/" + line;
  const last = State.get(key);
  if (last != null && Math.abs(value - parseFloat(String.UTF8.decode(last))) < band) return DONE;
  if (State.put(key, String.UTF8.encode(reading)) < 0) return because(REJECT, "the state was refused");
  if (publishText("plant/" + line + "/pressure/changed", reading, QOS1) < 0) return because(REJECT, "not permitted to publish");
  return DONE;
}
