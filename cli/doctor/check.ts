/** How a check came out: `fail` is a fault, `warn` will become one or may be meant. */
export type Outcome = 'ok' | 'warn' | 'fail';

/** One thing that was looked at. */
export interface Check {
  readonly area: 'host' | 'agent' | 'server';
  readonly name: string;
  readonly outcome: Outcome;
  /** What was found, one line. */
  readonly found: string;
  /** What to do about it; only of what is not ok. */
  readonly advice?: string;
}

/** What a check comes to when it is not ok. */
export type Finding = readonly [outcome: 'warn' | 'fail', found: string, advice: string];

/** Makes the checks of one area: each is the first finding that is one, or that all is well. */
export function checkerOf(area: Check['area']) {
  return (name: string, ok: string, ...findings: readonly (Finding | undefined)[]): Check => {
    const finding = findings.find((each) => each !== undefined);
    if (finding === undefined) return { area, name, outcome: 'ok', found: ok };
    const [outcome, found, advice] = finding;
    return { area, name, outcome, found, advice };
  };
}

/** The finding, if the condition holds. */
export function when(condition: boolean, ...finding: Finding): Finding | undefined {
  return condition ? finding : undefined;
}

const SHOWN = 3;

/** The first of many names, in words. */
export function firstOf(names: readonly string[]): string {
  return names.slice(0, SHOWN).join(', ') + (names.length > SHOWN ? ', …' : '');
}
