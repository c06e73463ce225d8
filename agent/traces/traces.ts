import type { DecisionHttpRequest } from '../../shared/policy/decision.ts';
import type { SocketAddress } from '../native/socket-address.ts';
import type { Encounter, Judgement } from '../proxy/judge/judge.ts';
import type { MeshConnectionUse } from '../proxy/mesh/mesh.ts';
import type { StreamFailure } from '../proxy/streams/byte-stream.ts';

/** Traces of requests, and of connections that carry none that we read, for who asked for them. */
export interface Traces {
  /** A request has come: its hop through this host begins. */
  begin(request: TracedRequest): Hop;
  /** A connection has come, of which nobody knows yet whose it is and what it carries: its passage through this host begins. */
  beginPassage(connection: TracedConnection): Passage;
}

export interface TracedRequest {
  readonly encounter: Encounter;
  readonly http: DecisionHttpRequest;
  /** Of the connection that it came on. */
  readonly connectionId: string;
}

export interface TracedConnection {
  /** A UUID: its digits are the trace's, on both hosts. */
  readonly connectionId: string;
  /** Who asks: a program of this host, or somebody who came to it. */
  readonly side: 'calling' | 'called';
  /** Whether another agent named the connection, and its span of it is above ours. */
  readonly isNamedByCaller: boolean;
  /** Of the trace that the caller says it belongs to (W3C Trace Context): ours then goes on in it. */
  readonly traceparent?: string | undefined;
}

/** One request on its way through this host: a span of kind SERVER, or CLIENT where a program of this host sends it out of the mesh. */
export interface Hop {
  /** 32 lower-case hexadecimal digits. */
  readonly traceId: string;
  /** What was decided, and the status of its refusal where that is not the verdict's; a denial ends the hop. */
  judged(judgement: Judgement, status?: number): void;
  /** The head of an HTTP/1.1 request as the next one gets it: below our span. */
  markHead(head: Uint8Array): Uint8Array;
  /** The header block of an HTTP/2 request, which stands for itself, in the same way. */
  markBlock(block: Uint8Array): Uint8Array;
  /** Bytes of an HTTP/1.1 answer as they pass, its head first. */
  seeAnswer(bytes: Uint8Array): void;
  /** The answer is complete, or will never be. Only the first call counts. */
  end(): void;
}

/** One connection on its way through this host: a span of kind CLIENT where a program of this host asks, SERVER where somebody came to it. */
export interface Passage {
  /** 32 lower-case hexadecimal digits. */
  readonly traceId: string;
  /** Another host is asked to take it. */
  asks(place: SocketAddress): void;
  /** The other host took it, on such a connection. */
  opened(encounter: Encounter, use: MeshConnectionUse): void;
  /** What was decided of it; a denial ends it. */
  judged(encounter: Encounter, judgement: Judgement): void;
  /** It is over, and why, where it did not end well. Only the first call counts. */
  end(failure?: StreamFailure): void;
  /** It gets no span, because what it carries has spans of its own. */
  drop(): void;
}
