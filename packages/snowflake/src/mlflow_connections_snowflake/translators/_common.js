// The helpers of every request translator. A translator is a JavaScript UDF and can import nothing,
// so the generator writes this text before each of them.

// Snowflake shows the message of an error to the caller of the function.
function refuse(sentence) {
  throw new Error("MLflow bridge: " + sentence);
}

// Return the only row, without its number.
function onlyRow(event) {
  const rows = event.body.data;
  if (rows.length !== 1) {
    refuse("this function takes one row a request, it was sent " + rows.length + ".");
  }
  return rows[0].slice(1);
}

// Return a VARCHAR argument: MLflow responds 400 to a number where it expects text.
function text(value, name) {
  if (value === null || value === undefined) {
    refuse(name + " is NULL.");
  }
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

// Return an optional VARCHAR argument: undefined leaves the key out of the JSON body.
function optionalText(value) {
  return value === null || value === undefined ? undefined : text(value, "");
}

// Return milliseconds since 1970, or a step: an integer that JavaScript represents exactly.
function whole(value, name, otherwise) {
  if (value === null || value === undefined) {
    return otherwise;
  }
  const number = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
  if (typeof number !== "number" || !Number.isSafeInteger(number)) {
    refuse(name + " must be a whole number, not " + JSON.stringify(value) + ".");
  }
  return number;
}

// Return a metric's value. JSON has neither NaN nor infinities: MLflow reads them from text, and
// responds 400 to null, which a NaN becomes on its way.
function metricValue(value) {
  if (value === null || value === undefined) {
    return "NaN";
  }
  if (typeof value === "boolean") {
    return value ? 1 : 0;
  }
  let number = value;
  if (typeof value === "string") {
    const word = value.trim().toLowerCase().replace(/^\+/, "");
    const words = { nan: NaN, inf: Infinity, infinity: Infinity, "-inf": -Infinity, "-infinity": -Infinity };
    number = Object.prototype.hasOwnProperty.call(words, word) ? words[word] : word === "" ? undefined : Number(word);
    if (number !== number && word !== "nan") {
      number = undefined;
    }
  }
  if (typeof number !== "number") {
    refuse("a metric's value must be a number, not " + JSON.stringify(value) + ".");
  }
  return Number.isFinite(number) ? number : String(number);
}

function metric(key, value, timestamp, step, now) {
  return {
    key: text(key, "a metric's key"),
    value: metricValue(value),
    timestamp: whole(timestamp, "timestamp", now),
    step: whole(step, "step", 0)
  };
}

// Parse a VARIANT, ARRAY or OBJECT argument. It comes as JSON text, or as text in text if it was
// text in SQL.
function parsed(value) {
  let result = value;
  for (let depth = 0; depth < 2 && typeof result === "string"; depth += 1) {
    try {
      result = JSON.parse(result);
    } catch (notJson) {
      return result;
    }
  }
  return result;
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

// Return tags or params, given as MLflow's list of {key, value} or as an object of key to value.
function pairs(value, name) {
  const given = parsed(value);
  if (given === null || given === undefined) {
    return [];
  }
  if (!Array.isArray(given) && !isObject(given)) {
    refuse(name + " must be an object or an array of {key, value}.");
  }
  const list = Array.isArray(given) ? given : Object.keys(given).map((key) => ({ key: key, value: given[key] }));
  return list.map((pair) => {
    if (!isObject(pair)) {
      refuse(name + " must be an object or an array of {key, value}.");
    }
    return { key: text(pair.key, "a key in " + name), value: text(pair.value, "a value in " + name) };
  });
}

// Return the request, with the row numbers that the response translator needs.
function post(event, body, more) {
  const numbers = event.body.data.map((row) => row[0]);
  return { body: body, translatorData: Object.assign({ rows: numbers }, more || {}) };
}
