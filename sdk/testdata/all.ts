// Calls everything once, so that all imports are in the module. It is only looked at, never run.
import * as m from "../assemblyscript/mayfly";

export function mayfly_handle(): i32 {
  const data = m.Event.data();
  m.Event.attr("id");
  m.Event.json();
  m.publish("t", data, m.QOS1 | m.RETAIN);
  m.respond(data);
  m.respondAttr("status", "204");
  m.retryAfter(m.nowMs() + m.Event.leftMs());
  m.State.get("k");
  m.State.put("k", data);
  m.State.delete("k");
  m.State.incr("k", 1);
  m.State.cas("k", m.State.version("k"), data);
  m.State.keys("k");
  m.config("k");
  m.secret("k");
  m.log(m.WARN, "text");
  m.random(8);
  const answer = m.Http.send("{}", data);
  if (answer != null) {
    answer.meta();
    answer.body();
    answer.close();
  }
  return m.because(m.RETRY, "why");
}
