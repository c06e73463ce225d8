import type { DecisionHttpRequest, Verdict } from '../../../shared/policy/decision.ts';
import { encodeRecord } from '../../audit/spool-frame.ts';
import { buildRecord, roundLatency } from './access-record.ts';
import type { Encounter } from '../judge/judge.ts';
import type { ProxyObserver } from './proxy-observer.ts';
import { recordedPath, type RecordedQueries } from './recorded-path.ts';

/** What differs between the records of one form. */
export interface FilledIn {
  /** A UUID: nothing in it is to be escaped. */
  readonly decisionId: string;
  readonly http: DecisionHttpRequest;
  readonly nowMs: number;
  readonly latencyUs: number;
  readonly traceId?: string | undefined;
}

/** What the records of one data path have in common. */
export interface RecordFormOptions {
  readonly observer: ProxyObserver;
  readonly queries: RecordedQueries;
}

/** A longer text may be too long for a record, and is built with all care. */
const MAX_PATH_CHARACTERS = 1024;
const BLANK: DecisionHttpRequest = { method: '', path: '', host: '', headers: {} };
const BLANKS = '"method":"","path":"",';
const BEHIND_TIME = ',"direction":';

/**
 * The records of requests that one caller sends to one target and that get the same verdict: their texts without building and encoding each of them. It takes a
 * tenth of the microsecond and more that this takes, which every request pays.
 */
export class RecordForm {
  readonly count: (latencyUs: number) => void;
  readonly #encounter: Encounter;
  readonly #verdict: Verdict;
  readonly #queries: RecordedQueries;
  readonly #ends: string;
  readonly #outcome: string;
  /** The request that was written down last: a client that asks the same again does so with the same object. */
  #asked: { readonly http: DecisionHttpRequest; readonly text: string } | undefined;

  /** Of an encounter on the called side. */
  constructor(encounter: Encounter, verdict: Verdict, { observer, queries }: RecordFormOptions) {
    this.#encounter = encounter;
    this.#verdict = verdict;
    this.#queries = queries;
    const judgement = { decisionId: '', verdict: { ...verdict, latencyUs: 0 } };
    const record = buildRecord(encounter, judgement, { http: BLANK, nowMs: 0, queries });
    this.count = observer.counterOf(record);
    // Quotes within a value are escaped, so none of these can be found there.
    const text = JSON.stringify(record);
    const blanks = text.indexOf(BLANKS);
    this.#ends = text.slice(text.indexOf(BEHIND_TIME), blanks);
    this.#outcome = text.slice(blanks + BLANKS.length, text.lastIndexOf('0'));
  }

  /** Whether a verdict is written down in this form. */
  fits({ reason, message, policyVersion, wouldDeny, userId }: Verdict): boolean {
    const mine = this.#verdict;
    return (
      policyVersion === mine.policyVersion &&
      message === mine.message &&
      reason === mine.reason &&
      wouldDeny === mine.wouldDeny &&
      userId === mine.userId
    );
  }

  /** The JSON text of a record, the same as by `buildRecord`. */
  textOf({ decisionId, http, nowMs, latencyUs, traceId }: FilledIn): string {
    if (http.path.length > MAX_PATH_CHARACTERS) {
      const judgement = { decisionId, verdict: { ...this.#verdict, latencyUs } };
      const queries = this.#queries;
      return encodeRecord(buildRecord(this.#encounter, judgement, { http, nowMs, queries, traceId }));
    }
    const trace = traceId === undefined ? '' : `,"trace_id":"${traceId}"`;
    const head = `{"decision_id":"${decisionId}","ts":"${timeOf(nowMs)}"${trace}`;
    return `${head}${this.#askedText(http)}${roundLatency(latencyUs)}}`;
  }

  /** What stands between the time and the latency. */
  #askedText(http: DecisionHttpRequest): string {
    if (this.#asked?.http === http) return this.#asked.text;
    const path = JSON.stringify(recordedPath(http, this.#queries));
    const request = `"method":${JSON.stringify(http.method)},"path":${path},`;
    const text = `${this.#ends}${request}${this.#outcome}`;
    this.#asked = { http, text };
    return text;
  }
}

/** The form that each encounter had last. */
export class RecordForms {
  readonly #options: RecordFormOptions;
  readonly #forms = new WeakMap<Encounter, RecordForm>();

  constructor(options: RecordFormOptions) {
    this.#options = options;
  }

  find(encounter: Encounter, verdict: Verdict): RecordForm {
    const known = this.#forms.get(encounter);
    if (known?.fits(verdict) === true) return known;
    const form = new RecordForm(encounter, verdict, this.#options);
    this.#forms.set(encounter, form);
    return form;
  }
}

let lastMs = Number.NaN;
let lastTime = '';

/** In ISO 8601; many records stand in one millisecond. */
function timeOf(nowMs: number): string {
  if (nowMs === lastMs) return lastTime;
  lastMs = nowMs;
  lastTime = new Date(nowMs).toISOString();
  return lastTime;
}
