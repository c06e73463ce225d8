import { PicketError } from '../../shared/errors/errors.ts';
import type {
  AttestAnswer,
  AttestRequest,
  ChallengeResponse,
  WireBundle,
} from '../../shared/protocol/attestation.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { agentId } from '../../shared/spiffe/reserved-path.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import type { IssuedSvids } from '../agents/issued-svids.ts';
import type { Nodes } from '../agents/nodes.ts';
import { toIssuedSvid, type CertificateAuthority, type IssuedCertificate } from '../ca/ca.ts';
import { readCsr } from '../ca/csr.ts';
import type { AttestationContext, AttestationStep, AttestedNode, NodeAttestor } from './node-attestor.ts';
import type { AttestationSessions } from './session.ts';

/** An attestation whose answer is awaited: what the host asked for, and how its answer is judged. */
export interface PendingAttestation {
  readonly request: AttestRequest;
  readonly publicKeySpki: Uint8Array;
  readonly respond: Extract<AttestationStep, { kind: 'challenge' }>['respond'];
}

export interface NodeAttestationOptions {
  readonly attestors: readonly NodeAttestor[];
  readonly sessions: AttestationSessions<PendingAttestation>;
  readonly authority: CertificateAuthority;
  readonly nodes: Pick<Nodes, 'recordAttestation'>;
  readonly issued: Pick<IssuedSvids, 'recordIn'>;
  /** The trust bundle that a new agent gets. */
  readonly bundle: () => WireBundle;
  readonly trustDomain: TrustDomain;
  /** Life of an agent's own certificate. */
  readonly agentTtlSeconds: number;
  readonly log: Log;
}

/** Lets hosts in: whoever proves what it is gets the certificate of that node, and no other. */
export class NodeAttestation {
  readonly #options: NodeAttestationOptions;

  constructor(options: NodeAttestationOptions) {
    this.#options = options;
  }

  /**
   * Takes a host's first message. Throws `invalid_argument`: `attestation_type_unknown`, and what `readCsr` throws; `permission_denied` with the reasons of the
   * attestor and of `Nodes.recordAttestation`.
   */
  async begin(
    request: AttestRequest,
    connection: { readonly serverCertificateSha256: Uint8Array },
  ): Promise<AttestAnswer> {
    const attestor = this.#requireAttestor(request.payload.type);
    const { publicKeySpki } = readCsr(Buffer.from(request.csr, 'base64'));
    const context: AttestationContext = { csrPublicKeySpki: publicKeySpki, ...connection };
    const step = await attestor.begin(request.payload, context);
    if (step.kind === 'attested') return await this.#admit({ request, publicKeySpki }, step.node);
    const { challenge, subject, respond } = step;
    const session = this.#options.sessions.open({ request, publicKeySpki, respond }, { subject });
    return { kind: 'challenge', session, challenge };
  }

  /** Takes the answer to a challenge, once. Throws `not_found`, reason `session_unknown`, and as `begin`. */
  async respond(session: string, response: ChallengeResponse): Promise<AttestAnswer> {
    const pending = this.#options.sessions.take(session);
    return await this.#admit(pending, await pending.respond(response.payload));
  }

  #requireAttestor(type: string): NodeAttestor {
    const attestor = this.#options.attestors.find((candidate) => candidate.type === type);
    if (attestor !== undefined) return attestor;
    throw new PicketError(
      'invalid_argument',
      'attestation_type_unknown',
      `This server does not take attestation by ${type}`,
    );
  }

  /** The certificate leaves the server only after the node, and the certificate itself, are on record, and the proof is used up: all or nothing of it. */
  async #admit(
    pending: Pick<PendingAttestation, 'request' | 'publicKeySpki'>,
    proven: AttestedNode,
  ): Promise<AttestAnswer> {
    const { authority, nodes, issued, trustDomain, log } = this.#options;
    const { request, publicKeySpki } = pending;
    const attestationType = request.payload.type;
    const nodeId = agentId(trustDomain, { attestationType, name: proven.name });
    const certificate: IssuedCertificate = await authority.issue({
      spiffeId: nodeId,
      publicKeySpki,
      ttlSeconds: this.#options.agentTtlSeconds,
      dnsNames: [],
    });
    const attestation = {
      ...proven,
      nodeId,
      attestationType,
      certificate,
      agentVersion: request.agentVersion,
      claimedAddresses: request.addresses,
    };
    await nodes.recordAttestation(attestation, async (transaction) => {
      const replacedSerial = await proven.redeem?.(transaction);
      await issued.recordIn(transaction, [{ certificate, nodeId, entryId: null }]);
      return replacedSerial;
    });
    log.info('node_attested', { nodeId, attestation_type: attestationType, serial: certificate.serial });
    return { kind: 'attested', svid: toIssuedSvid(certificate), bundle: this.#options.bundle() };
  }
}
