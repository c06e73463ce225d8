import type { IssuedSvid } from '../../shared/protocol/attestation.ts';
import type { Entry } from '../../shared/protocol/registration.ts';
import type { SignAnswer, SignRequest } from '../../shared/protocol/signing.ts';
import { problemOf } from '../../shared/protocol/problem.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { PicketError, toPicketError } from '../../shared/errors/errors.ts';
import { toIssuedSvid, type CertificateAuthority, type IssuedCertificate } from '../ca/ca.ts';
import { readCsr } from '../ca/csr.ts';
import type { Quarantine, Quarantines } from '../quarantine/quarantines.ts';
import type { Registration } from '../registration/registration.ts';
import type { IssuedSvids, SvidIssue } from './issued-svids.ts';
import type { Nodes } from './nodes.ts';

export interface AgentCertificatesOptions {
  readonly authority: CertificateAuthority;
  readonly nodes: Pick<Nodes, 'recordRenewal'>;
  readonly registration: Pick<Registration, 'findOfParent'>;
  readonly issued: Pick<IssuedSvids, 'record'>;
  readonly quarantines: Pick<Quarantines, 'findHolding'>;
  readonly agentTtlSeconds: number;
}

/** An agent that was authenticated for this call. */
export interface CallingAgent {
  readonly nodeId: SpiffeId;
  readonly certSerial: string;
}

/** Certificates for an agent in standing: its own anew, and those of the workloads that it is the parent of. */
export class AgentCertificates {
  readonly #options: AgentCertificatesOptions;

  constructor(options: AgentCertificatesOptions) {
    this.#options = options;
  }

  /** A new certificate for the agent itself. Throws `permission_denied` as `Nodes.recordRenewal`, and what `readCsr` throws. */
  async renew(agent: CallingAgent, csr: string): Promise<IssuedSvid> {
    const { authority, nodes, issued, agentTtlSeconds } = this.#options;
    const { nodeId } = agent;
    const certificate = await authority.issue({
      spiffeId: nodeId,
      publicKeySpki: readCsr(Buffer.from(csr, 'base64')).publicKeySpki,
      ttlSeconds: agentTtlSeconds,
      dnsNames: [],
    });
    await nodes.recordRenewal({ nodeId, presentedSerial: agent.certSerial, certificate });
    await issued.record([{ certificate, nodeId, entryId: null }]);
    return toIssuedSvid(certificate);
  }

  /**
   * Certificates of workloads, an answer for each request in order. An entry that is not the agent's own does not exist for it: `not_found`, reason `entry_unknown`.
   * Whoever is in quarantine gets none: `permission_denied`, reason `quarantined`.
   */
  async sign(nodeId: SpiffeId, { requests }: SignRequest): Promise<SignAnswer> {
    const ids = requests.map(({ entryId }) => entryId);
    const entries = await this.#options.registration.findOfParent(nodeId, ids);
    const spiffeIds = Array.from(entries.values(), (entry) => entry.spiffeId);
    const held = await this.#options.quarantines.findHolding(nodeId, spiffeIds);
    const results: SignAnswer['results'] = [];
    const issues: SvidIssue[] = [];
    for (const { entryId, csr } of requests) {
      try {
        const certificate = await this.#issue(entries.get(entryId), csr, held);
        issues.push({ certificate, nodeId, entryId });
        results.push({ kind: 'issued', svid: toIssuedSvid(certificate) });
      } catch (error) {
        results.push(refused(error));
      }
    }
    await this.#options.issued.record(issues);
    // A node that is put in quarantine from now on has these among its certificates; of one that was meanwhile, they must not get out.
    const heldNow = await this.#options.quarantines.findHolding(nodeId, spiffeIds);
    return {
      results: results.map((result, i) => {
        const quarantine = heldNow.get(entries.get(ids[i] ?? '')?.spiffeId ?? nodeId);
        return result.kind === 'issued' && quarantine !== undefined
          ? refused(quarantined(quarantine))
          : result;
      }),
    };
  }

  async #issue(
    entry: Entry | undefined,
    csr: string,
    held: ReadonlyMap<SpiffeId, Quarantine>,
  ): Promise<IssuedCertificate> {
    if (entry === undefined)
      throw new PicketError('not_found', 'entry_unknown', 'There is no such entry of this agent');
    const quarantine = held.get(entry.spiffeId);
    if (quarantine !== undefined) throw quarantined(quarantine);
    return await this.#options.authority.issue({
      spiffeId: entry.spiffeId,
      publicKeySpki: readCsr(Buffer.from(csr, 'base64')).publicKeySpki,
      ttlSeconds: entry.ttlSeconds,
      dnsNames: entry.dnsNames,
    });
  }
}

function refused(error: unknown): SignAnswer['results'][number] {
  return { kind: 'refused', problem: problemOf(toPicketError(error)) };
}

function quarantined({ kind, subject }: Quarantine): PicketError {
  return new PicketError(
    'permission_denied',
    'quarantined',
    `The ${kind} "${subject}" is in quarantine: no certificate is issued`,
  );
}
