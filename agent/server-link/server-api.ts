import type { z } from 'zod';
import { PicketError } from '../../shared/errors/errors.ts';
import { MAX_ARTIFACT_BYTES } from '../../shared/policy/policy-bundle.ts';
import { renewAnswer } from '../../shared/protocol/attestation.ts';
import { auditAnswer, type AuditAnswer, type FramedBatch } from '../../shared/protocol/audit.ts';
import { signAnswer, type SignAnswer, type SignRequest } from '../../shared/protocol/signing.ts';
import type { AgentStatus } from '../../shared/protocol/sync.ts';
import { WatchedValue, type Watched } from '../../shared/runtime/watched-value.ts';
import { fromWireBundle } from '../../shared/spiffe/wire-bundle.ts';
import { attestNode, type AttestOptions, type IssuedIdentity } from './attest-node.ts';
import type { ServerConnection, ServerRequest, ServerResponse } from './connection.ts';
import { readAnswer, requestBytes, requestJson } from './read-answer.ts';
import type { ServerLink } from './server-link.ts';
import type { SyncPosition } from './sync-state.ts';

/** Reasons for which a server turns away an agent whom it knows by its certificate. */
const STANDING_LOST: ReadonlySet<string> = new Set(['node_unknown', 'node_banned', 'certificate_superseded']);

/** What an agent asks of the server. Every call throws what the server's problem says, or `unavailable` when no server answers. */
export class ServerApi {
  readonly #link: ServerLink;
  /** Tells the streams of two processes of one agent apart, of which one takes over from the other. */
  readonly #instance = crypto.randomUUID();
  readonly #refusal = new WatchedValue<PicketError | undefined>(undefined);

  constructor(link: ServerLink) {
    this.#link = link;
  }

  /** Why the server turned this agent away (banned, evicted, unknown certificate), until it accepts it again. */
  get refusal(): Watched<PicketError | undefined> {
    return this.#refusal;
  }

  /** Proves the host, see `attestNode`. A refusal of the proof is thrown; it says nothing of the certificate that the agent holds. */
  async attest(options: AttestOptions): Promise<IssuedIdentity> {
    const identity = await attestNode(await this.#link.connection(), options);
    this.#accepted();
    return identity;
  }

  /** A new SVID for the agent itself. `csr` is base64. */
  async renew(csr: string): Promise<IssuedIdentity> {
    const { svid, bundle } = await this.#json(post('/v1/agent/renew', { csr }), renewAnswer);
    return { svid, bundle: fromWireBundle(bundle) };
  }

  /** SVIDs for workloads, at most `MAX_SIGNING_BATCH`: an answer for each request, in order. */
  async requestSvids(request: SignRequest): Promise<SignAnswer['results']> {
    const { results } = await this.#json(post('/v1/svids', request), signAnswer);
    if (results.length === request.requests.length) return results;
    throw new PicketError(
      'unavailable',
      'bad_answer',
      `The server gave ${results.length} answers to ${request.requests.length} requests`,
    );
  }

  /** A policy's artefact. Whether it is the right one is for the caller to check. */
  async fetchArtifact(digest: string): Promise<Uint8Array> {
    const path = `/v1/policy/artifacts/${encodeURIComponent(digest)}`;
    return await this.#judged(
      async (connection) => await requestBytes(connection, { method: 'GET', path }, MAX_ARTIFACT_BYTES),
    );
  }

  /** Tells the server what the agent says of itself. */
  async sendStatus(status: AgentStatus): Promise<void> {
    await this.#judged(
      async (connection) => await requestBytes(connection, post('/v1/agent/status', status)),
    );
  }

  /** Ships access records; the answer says up to where the server has them. */
  async sendAudit({ epoch, gap, frames }: FramedBatch): Promise<AuditAnswer> {
    const told = gap === undefined ? {} : { gap_after: String(gap.after), gap_hash: gap.hash };
    const path = `/v1/audit/frames?${new URLSearchParams({ epoch, ...told }).toString()}`;
    return await this.#json({ method: 'POST', path, bytes: frames }, auditAnswer);
  }

  /** Opens the stream of changes; the answer is a successful one. */
  async openSync(resumeFrom: SyncPosition | undefined): Promise<ServerResponse> {
    const position =
      resumeFrom === undefined ? {} : { epoch: resumeFrom.epoch, cursor: String(resumeFrom.cursor) };
    const query = new URLSearchParams({ ...position, instance: this.#instance }).toString();
    return await this.#judged(async (connection) => {
      const response = await connection.send({ method: 'GET', path: `/v1/sync?${query}` });
      if (response.status !== 200) await readAnswer(response);
      return response;
    });
  }

  async #json<T>(request: ServerRequest, schema: z.ZodType<T>): Promise<T> {
    return await this.#judged(async (connection) => await requestJson(connection, request, schema));
  }

  /** Runs a call that needs the agent's identity. What the link throws is no word of a server that we trust, so only the call's own error counts. */
  async #judged<T>(call: (connection: ServerConnection) => Promise<T>): Promise<T> {
    const connection = await this.#link.connection();
    try {
      const answer = await call(connection);
      this.#accepted();
      return answer;
    } catch (error) {
      if (error instanceof PicketError && isStandingLost(error)) this.#refusal.set(error);
      throw error;
    }
  }

  #accepted(): void {
    if (this.#refusal.current !== undefined) this.#refusal.set(undefined);
  }
}

function post(path: string, body: unknown): ServerRequest {
  return { method: 'POST', path, body };
}

function isStandingLost(error: PicketError): boolean {
  return error.code === 'unauthenticated' || STANDING_LOST.has(error.reason);
}
