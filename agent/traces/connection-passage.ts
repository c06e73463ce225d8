import { SpanStatusCode, type Attributes, type Span } from '@opentelemetry/api';
import type { SocketAddress } from '../native/socket-address.ts';
import type { Encounter, Judgement } from '../proxy/judge/judge.ts';
import type { MeshConnectionUse } from '../proxy/mesh/mesh.ts';
import type { StreamFailure } from '../proxy/streams/byte-stream.ts';
import { attributesOfJudgement, attributesOfParties } from './span-attributes.ts';
import type { Passage, TracedConnection } from './traces.ts';

/** Of a connection that broke without anybody saying why. */
const BROKEN = 'connection_broken';

/** The span of a connection. */
export class ConnectionPassage implements Passage {
  readonly traceId: string;
  readonly #connection: TracedConnection;
  /** Undefined once it has ended, and where it is not recorded. */
  #span: Span | undefined;
  #asked = 0;

  constructor(span: Span, connection: TracedConnection) {
    this.traceId = span.spanContext().traceId;
    this.#connection = connection;
    this.#span = span.isRecording() ? span : undefined;
  }

  asks({ address, port }: SocketAddress): void {
    if (this.#span === undefined) return;
    this.#asked += 1;
    const peer = { 'network.peer.address': address, 'network.peer.port': port };
    this.#span.setAttributes({ ...peer, 'picket.places_asked': this.#asked }).addEvent('picket.ask', peer);
  }

  opened(encounter: Encounter, use: MeshConnectionUse): void {
    if (this.#span === undefined) return;
    this.#span.setAttributes({
      ...this.#attributesOf(encounter),
      'picket.decision': 'allow',
      'picket.mesh_connection': use,
      // Of a handshake that was made for it.
      ...(use === 'pooled' ? {} : { 'tls.resumed': use === 'resumed' }),
    });
  }

  judged(encounter: Encounter, judgement: Judgement): void {
    if (this.#span === undefined) return;
    const { verdict } = judgement;
    this.#span.setAttributes({ ...this.#attributesOf(encounter), ...attributesOfJudgement(judgement) });
    if (verdict.isAllowed) return;
    // As of HTTP: that somebody was refused is no error of who refused him.
    if (encounter.direction === 'outbound' || verdict.httpStatus >= 500)
      this.#span.setStatus({ code: SpanStatusCode.ERROR });
    this.end();
  }

  end(failure?: StreamFailure): void {
    const span = this.#span;
    if (span === undefined) return;
    this.#span = undefined;
    if (failure !== undefined) span.setAttribute('error.type', failure.reason ?? BROKEN);
    span.end();
  }

  drop(): void {
    this.#span = undefined;
  }

  #attributesOf(encounter: Encounter): Attributes {
    const { caller, tls } = encounter;
    const { connectionId } = this.#connection;
    const serverName = tls?.serverName ?? '';
    return {
      ...attributesOfParties(encounter, connectionId),
      'network.transport': 'tcp',
      'client.port': caller.port,
      ...(serverName === '' ? {} : { 'tls.client.server_name': serverName }),
    };
  }
}
