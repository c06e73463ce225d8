import { DECISION_REASONS } from '../../../shared/policy/decision.ts';
import type { Hop } from '../../traces/traces.ts';
import type { RelayEnd } from '../relays/relay-end.ts';
import { findBodyBytes, SHORTER } from './body-length.ts';
import type { Http2Application } from './application.ts';
import type { Http2Greeting } from './greeting.ts';
import type { Prepared, PreparedHttp2Request } from './prepared.ts';
import type { Http2Refusals } from './refusals.ts';
import type { Http2RelayOptions } from './relay-options.ts';
import type { Http2ResetRate } from './reset-rate.ts';
import type { Http2Sides } from './sides.ts';
import type { Http2Streams } from './streams.ts';
import { RecordsAhead } from '../records/records-ahead.ts';

/** A request as it was read. */
export interface NewRequest {
  readonly streamId: number;
  readonly isEnd: boolean;
  readonly prepared: Prepared;
}

export interface Http2AdmissionOptions extends Pick<
  Http2RelayOptions,
  'judge' | 'refuse' | 'commit' | 'clock'
> {
  readonly streams: Http2Streams;
  readonly resets: Http2ResetRate;
  readonly sides: Http2Sides;
  readonly greeting: Http2Greeting;
  readonly refusals: Http2Refusals;
  readonly end: RelayEnd;
  readonly application: Http2Application;
}

/** Who gets in: each request of one client is decided by itself, and sent on or answered. */
export class Http2Admission {
  readonly #options: Http2AdmissionOptions;
  readonly #records: RecordsAhead;

  constructor(options: Http2AdmissionOptions) {
    this.#options = options;
    this.#records = new RecordsAhead(options.commit);
  }

  decide({ prepared, streamId, isEnd }: NewRequest): void {
    const { judge, refuse, refusals, streams } = this.#options;
    if (prepared.kind === 'malformed') {
      refuse({ reason: 'protocol_error', message: malformed(prepared.why) });
      return refusals.reset({ streamId, isEnd }, 'protocol_error');
    }
    if (prepared.kind === 'refused') {
      const judgement = refuse({ reason: 'protocol_error', message: prepared.why });
      const { status, isGrpc } = prepared;
      return refusals.answer(judgement, { streamId, isEnd, status, isGrpc, isHead: false });
    }
    const { http, isGrpc } = prepared;
    if (isEnd && (findBodyBytes(http) ?? 0) > 0) {
      refuse({ reason: 'protocol_error', message: malformed(SHORTER), http });
      return refusals.reset({ streamId, isEnd }, 'protocol_error');
    }
    if (streams.isFull) {
      refuse({ reason: 'overloaded', http });
      return refusals.reset({ streamId, isEnd }, 'refused_stream');
    }
    const judgement = judge(http);
    this.#records.note(judgement.batch);
    if (judgement.verdict.isAllowed) return this.#forward(prepared, { streamId, isEnd, hop: judgement.hop });
    const { httpStatus: status } = judgement.verdict;
    refusals.answer(judgement, { streamId, isEnd, status, isGrpc, isHead: http.method === 'HEAD' });
  }

  /** A request that was allowed turns out to be none. */
  endMalformed(streamId: number, why: string, isEnd: boolean): void {
    const { resets, streams, refuse, refusals } = this.#options;
    resets.count();
    const http = streams.find(streamId)?.http ?? null;
    refuse({ reason: 'protocol_error', message: malformed(why), http });
    if (isEnd) streams.endRequest(streamId);
    refusals.cut(streamId, 'protocol_error');
  }

  /** The client goes on with a request that it has ended, or that is over. It hears so, and what else it sends there is thrown away (RFC 9113 5.1). */
  endClosed(streamId: number): void {
    const { resets, streams, refuse, refusals } = this.#options;
    const http = streams.find(streamId)?.http;
    if (http === undefined) return refusals.reset({ streamId, isEnd: false }, 'stream_closed');
    resets.count();
    refuse({ reason: 'protocol_error', message: malformed('it goes on after its end'), http });
    refusals.cut(streamId, 'stream_closed');
    streams.refuse(streamId);
  }

  /**
   * Writes the records of what is about to go to the application. False: nothing may go there any more. Which of the streams are lost with their records cannot be told
   * apart in what was collected, so the connection ends.
   */
  writeRecords(): boolean {
    if (this.#records.write()) return true;
    const { clock, end } = this.#options;
    clock.schedule(0, () =>
      end.atOnce({ reason: 'audit_unavailable', message: DECISION_REASONS.audit_unavailable.text }),
    );
    return false;
  }

  #forward(
    prepared: PreparedHttp2Request,
    { streamId, isEnd, hop }: Pick<NewRequest, 'streamId' | 'isEnd'> & { readonly hop: Hop | undefined },
  ): void {
    const { greeting, streams, sides, application } = this.#options;
    greeting.say();
    application.reach();
    const { http, headBytes, isGrpc } = prepared;
    streams.add(streamId, { http, headBytes, isGrpc, hop, isRequestEnded: isEnd });
    const isFirst = !streams.hasPassed;
    streams.hasPassed = true;
    const block = hop?.markBlock(prepared.block) ?? prepared.block;
    sides.sendBlock(block, { streamId, isEnd, isFirst });
  }
}

function malformed(why: string): string {
  return `Cannot relay the request: ${why}`;
}
