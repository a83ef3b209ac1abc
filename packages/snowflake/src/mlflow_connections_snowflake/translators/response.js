// MLflow's reply -> {body: reply} for each row of the request, with the row's number and in its order.
// All functions share this UDF.
function refuse(sentence) {
  throw new Error("MLflow bridge: " + sentence);
}

function replyOf(body) {
  if (body === null || body === undefined || body === "") {
    return {};
  }
  if (typeof body !== "string") {
    return body;
  }
  try {
    return JSON.parse(body);
  } catch (notJson) {
    // For example a proxy's error page; its first words identify it.
    const start = body.replace(/<[^>]*>/g, " ").replace(/\s+/g, " ").trim().slice(0, 200);
    return refuse("the gateway responded with text instead of MLflow's JSON: " + start);
  }
}

function response(event) {
  const sent = event.translatorData;
  let reply = replyOf(event.body);
  // A gateway may pass MLflow's refusal on with the status 200.
  if (typeof reply === "object" && reply !== null && reply.error_code) {
    refuse("MLflow refused: " + reply.error_code + ": " + (reply.message || "no message"));
  }
  // A gateway may refuse with the status 200, too: its own reply has none of MLflow's keys.
  const own = ["message", "Message", "statusCode", "status", "code"];
  if (typeof reply === "object" && reply !== null && (reply.message || reply.Message) &&
      Object.keys(reply).every((key) => own.indexOf(key) !== -1)) {
    refuse("the gateway responded instead of MLflow: " + (reply.message || reply.Message));
  }
  if (sent.name !== undefined) {
    const found = (reply.experiments || []).filter((experiment) => experiment.name === sent.name);
    reply = { experiments: found };
  }
  return { body: { data: sent.rows.map((number) => [number, { body: reply }]) } };
}
