import type { AccessRecordShown } from '../kit/access-records.ts';
import type { SeenRequest } from './requests.ts';

/** A request that failed although nothing was in the way, with what there is to find out why. */
export interface Loss extends SeenRequest {
  readonly begun: string;
  /** What the test did shortly before, and while it lasted. */
  readonly behind: readonly string[];
  /** What was denied or failed at that time, as the hosts recorded it. `port` tells which connection was the request's. */
  readonly recorded: readonly string[];
  /** What agents and server logged at that time. */
  readonly logged: readonly string[];
}

/** Something that the test did to the mesh. */
export interface Happening {
  readonly name: string;
  readonly fromMs: number;
  readonly untilMs: number;
}

/** What is known of a time in which requests were lost. */
export interface Evidence {
  /** In the order in which they began. */
  readonly happenings: readonly Happening[];
  readonly denials: readonly AccessRecordShown[];
  /** By the name of the process: lines of JSON with a `ts`, and what else it printed behind them. */
  readonly logs: Readonly<Record<string, string>>;
}

/** A cause lies so long before what it does, at most; of what happened last it is said however long ago that was. */
const BEFORE_MS = 3000;
const LOGGED_BEFORE_MS = 1000;
/** A certificate that was not renewed in time ends long after the last one was issued. */
const ISSUED_BEFORE_MS = 30_000;
/** Records and lines may be a little later than what they tell of. */
const AFTER_MS = 500;

/** Says of each lost request what was going on. */
export function explainLosses(lost: readonly SeenRequest[], evidence: Evidence): readonly Loss[] {
  const { happenings, denials, logs } = evidence;
  const lines = Object.entries(logs).flatMap(([name, log]) => linesOf(name, log));
  return lost.map((request) => {
    const { begunMs, endedMs } = request;
    const isNear = (atMs: number, beforeMs: number): boolean =>
      atMs >= begunMs - beforeMs && atMs <= endedMs + AFTER_MS;
    return {
      ...request,
      begun: new Date(begunMs).toISOString(),
      behind: findBehind(request, happenings).map((each) => tellHappening(each, request)),
      recorded: denials
        .filter(({ ts, path }) => isNear(Date.parse(ts), 0) && path?.startsWith('/flip/') !== true)
        .map(tellDenial),
      logged: lines
        .filter(({ atMs, text }) => isNear(atMs, isOfCertificate(text) ? ISSUED_BEFORE_MS : LOGGED_BEFORE_MS))
        .toSorted((a, b) => a.atMs - b.atMs)
        .map(({ text }) => text),
    };
  });
}

function findBehind(
  { begunMs, endedMs }: SeenRequest,
  happenings: readonly Happening[],
): readonly Happening[] {
  const begunBefore = happenings.filter(({ fromMs }) => fromMs <= endedMs);
  const near = begunBefore.filter(({ untilMs }) => untilMs >= begunMs - BEFORE_MS);
  return near.length > 0 ? near : begunBefore.slice(-1);
}

function tellHappening({ name, fromMs, untilMs }: Happening, { begunMs }: SeenRequest): string {
  const [from, until] = [fromMs, untilMs].map((atMs) => Math.round(atMs - begunMs));
  return `${name}, from ${from} to ${until} ms`;
}

function tellDenial(denial: AccessRecordShown): string {
  const { ts, direction, source, path, reason, message } = denial;
  return `${ts} ${direction} of ${source}${path === null ? '' : ` ${path}`}: ${reason}: ${message}`;
}

function isOfCertificate(line: string): boolean {
  return line.includes('"svid_issued"') || line.includes('"renewal_failed"');
}

/** A line that says no time belongs to the one before it. */
function linesOf(name: string, log: string): readonly { readonly atMs: number; readonly text: string }[] {
  let atMs = 0;
  return log
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [, ts] = /^\{"ts":"([^"]+)"/.exec(line) ?? [];
      if (ts !== undefined) atMs = Date.parse(ts);
      return { atMs, text: `${name}: ${line}` };
    });
}
