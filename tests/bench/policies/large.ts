/** Policies of the sizes that people have, in Rego. */

/** One rule, as in the README. */
export const SMALL = `package picket.authz

default allow := false

allow if {
	input.caller.path == "/web"
	input.target.path == "/invoices"
	input.request.method == "GET"
}
`;

/** `count` rules of four lines each, for as many callers; the one that allows is the last. */
export function rulesFor(count: number): string {
  const rules = Array.from({ length: count }, (_, number) => {
    const caller = number === count - 1 ? '/web' : `/caller-${number}`;
    return `allow if {
	input.caller.path == "${caller}"
	startswith(input.request.path, "/invoices/")
	input.request.method in {"GET", "HEAD"}
}
`;
  });
  return ['package picket.authz\n', 'default allow := false\n', ...rules].join('\n');
}

/** Grants as data: `count` of them looked through by one rule. */
export const GRANTS = `package picket.authz

default allow := false

allow if {
	some grant in data.grants[input.caller.path]
	grant.target == input.target.path
	grant.method == input.request.method
}
`;

/** The data of `GRANTS`: ten callers have it among them, one of which is asked about. */
export function grantsOf(count: number): unknown {
  const callers = Array.from({ length: count / 10 }, (_, number) =>
    number === 0 ? '/web' : `/caller-${number}`,
  );
  const targets = Array.from({ length: 10 }, (_, number) => ({
    target: number === 9 ? '/invoices' : `/target-${number}`,
    method: 'GET',
  }));
  return { grants: Object.fromEntries(callers.map((caller) => [caller, targets])) };
}
