// (experiment_name) -> POST experiments/search. MLflow's get-by-name answers only to GET.
function request(event) {
  const name = text(onlyRow(event)[0], "experiment_name");
  // MLflow's filter knows no escape. What would end the literal becomes LIKE's one-character
  // wildcard; the response translator drops what then matched besides.
  const exact = name.search(/['"\\]/) === -1;
  const filter = exact ? "name = '" + name + "'" : "name LIKE '" + name.replace(/['"\\]/g, "_") + "'";
  return post(event, { filter: filter, max_results: 1000, view_type: "ACTIVE_ONLY" }, { name: name });
}
