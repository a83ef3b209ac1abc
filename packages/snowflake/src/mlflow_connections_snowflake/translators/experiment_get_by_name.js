// (experiment_name) -> POST experiments/search, since MLflow's get-by-name is a GET.
function request(event) {
  const name = text(onlyRow(event)[0], "experiment_name");
  // MLflow's filter has no escape. A quote or backslash becomes LIKE's one-character wildcard; the
  // response translator drops other matches.
  const exact = name.search(/['"\\]/) === -1;
  const filter = exact ? "name = '" + name + "'" : "name LIKE '" + name.replace(/['"\\]/g, "_") + "'";
  return post(event, { filter: filter, max_results: 1000, view_type: "ACTIVE_ONLY" }, { name: name });
}
