import type { DecisionHttpRequest } from '../../../shared/policy/decision.ts';
import { rebuildHead, type RequestHead } from '../../../shared/wire/http1-head.ts';
import type { ReadRequest } from './requests.ts';

/** A request as the policy is asked about it and as the application gets it. */
export interface PreparedRequest {
  readonly head: RequestHead;
  readonly http: DecisionHttpRequest;
  /** The head with the caller's identity attached. */
  readonly rebuilt: Uint8Array;
}

/** Prepares the requests of one connection: the same objects for a head that is the same as the one before. */
export class RequestPreparer {
  readonly #clientCertLine: Uint8Array;
  #last: PreparedRequest | undefined;

  constructor(clientCertLine: Uint8Array) {
    this.#clientCertLine = clientCertLine;
  }

  prepare({ head, bytes }: ReadRequest): PreparedRequest {
    if (this.#last?.head === head) return this.#last;
    const { method, path, host, headers } = head;
    const scheme = head.isAbsolute ? { scheme: 'http' } : {};
    const range = { start: 0, end: bytes.length, cuts: head.cuts };
    const rebuilt = rebuildHead(bytes, range, this.#clientCertLine);
    this.#last = { head, http: { ...scheme, method, path, host, headers }, rebuilt };
    return this.#last;
  }
}
