import { toPicketError } from '../../../shared/errors/errors.ts';
import type { EgressTerms } from '../../../shared/policy/egress-terms.ts';
import type { SpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import type { CertificateCheck } from '../../egress/certificate-check.ts';
import type { Encounter, Refusal } from '../judge/judge.ts';
import { dialTcp } from '../streams/tcp-stream.ts';
import type { GatewayReach } from './gateway-reach.ts';
import type { GatewayExit, GatewayRoute } from './gateway-route.ts';
import type { Leaving } from './leaving.ts';

export interface ExitsOptions {
  readonly certificates: CertificateCheck;
  /** To those who take it out where the policy names one. */
  readonly gateways: Pick<GatewayRoute, 'isHere' | 'open'>;
  /** What this host may take out as a gateway; undefined: it is none. */
  readonly reach?: Pick<GatewayReach, 'findRefusal' | 'findLoss'> | undefined;
  /** Of the connections that leave the mesh. */
  readonly mark: number;
  readonly clock: Clock;
}

/** The other end, on the way out. `encounter` names by whom the last hop was proven, where there is one. */
export type Exit = Pick<GatewayExit, 'far' | 'encounter'> &
  Partial<GatewayExit> & {
    /** Why this host may not go on as the gateway by which it went out, where it did. */
    readonly findLoss?: () => Refusal | undefined;
  };

const DIAL_MS = 10_000;

/** By which way something leaves: through the mesh to a gateway, or from this host, which then has the server prove what the policy asks for. */
export class Exits {
  readonly #options: ExitsOptions;

  constructor(options: ExitsOptions) {
    this.#options = options;
  }

  /** Whether somebody else takes it out: neither is this the gateway, nor is the gateway of this host. */
  isElsewhere({ direction }: Encounter, terms: EgressTerms | undefined): boolean {
    if (terms?.via === undefined || direction === 'inbound') return false;
    return !this.#options.gateways.isHere(terms.via);
  }

  /** Why what the policy lets out does not get there, as far as that is known before it is opened. */
  async findObstacle(encounter: Encounter, terms: EgressTerms | undefined): Promise<Refusal | undefined> {
    return (await this.#findClosed(encounter, terms)) ?? (await this.#findUnproven(encounter, terms));
  }

  async open(
    leaving: Leaving,
    encounter: Encounter,
    terms: EgressTerms | undefined,
  ): Promise<Exit | { readonly refusal: Refusal }> {
    const { mark, clock, gateways } = this.#options;
    const { destination } = leaving;
    if (terms?.via !== undefined && this.isElsewhere(encounter, terms))
      return await gateways.open(leaving, { ...encounter, via: terms.via }, terms.via);
    try {
      const refusal = await this.#findClosed(encounter, terms);
      if (refusal !== undefined) return { refusal };
      const far = await dialTcp({ ...destination, mark, timeoutMs: DIAL_MS, clock });
      return { far, encounter, findLoss: () => this.findLossHere(encounter.direction, terms?.via) };
    } catch (error) {
      return { refusal: { reason: 'target_unreachable', message: toPicketError(error).message } };
    }
  }

  /** Why what a program of this host sends through the gateway on it may not go on; what other hosts bring is looked after by `Gateway`. */
  findLossHere(direction: Encounter['direction'], via: SpiffeId | undefined): Refusal | undefined {
    return via === undefined || direction === 'inbound' ? undefined : this.#options.reach?.findLoss(via);
  }

  /** What this host's own programs send through the gateway on it goes no further than what other hosts bring, of which `Gateway` asked before. */
  async #findClosed(
    { direction, target }: Encounter,
    terms: EgressTerms | undefined,
  ): Promise<Refusal | undefined> {
    const { gateways, reach } = this.#options;
    if (direction === 'inbound' || terms?.via === undefined || !gateways.isHere(terms.via)) return undefined;
    if (reach === undefined) return { reason: 'egress_deny', message: 'This host is no gateway' };
    return await reach.findRefusal(terms.via, target);
  }

  /** Whoever dials the server asks it for its certificate. Where it is inspected, it proves that on the very connection that carries the requests. */
  async #findUnproven(encounter: Encounter, terms: EgressTerms | undefined): Promise<Refusal | undefined> {
    if (terms?.certificate === undefined || terms.isInspected === true) return undefined;
    if (this.isElsewhere(encounter, terms)) return undefined;
    const { caller, target, tls } = encounter;
    const server = { address: target.address, port: target.port, serverName: tls?.serverName ?? '' };
    const asker = caller.spiffeId ?? caller.address;
    const message = await this.#options.certificates.findFault(server, terms.certificate, asker);
    return message === undefined ? undefined : { reason: 'certificate_refused', message };
  }
}
