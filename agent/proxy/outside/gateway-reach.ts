import { type BlockList, isIPv4 } from 'node:net';
import type { SpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import type { Directory } from '../../directory/directory.ts';
import { canonicalAddress, embeddedIpv4s, isHostAddress } from '../../directory/host-address.ts';
import { parseCidr } from '../../capture/cidr.ts';
import { INSIDE_NETWORKS } from '../../egress/inside-networks.ts';
import { buildNetworkList } from '../../egress/network-list.ts';
import type { SocketAddress } from '../../native/socket-address.ts';
import type { Refusal } from '../judge/judge.ts';
import type { OwnIdentity } from './own-identity.ts';

/** What the configuration of a gateway's host says of networks, beside those that no gateway takes anything to. */
export interface GatewayNetworks {
  /** Nothing goes there, whatever the policy says. */
  readonly refuses: BlockList;
  /** Inside networks, to which else nothing goes either. */
  readonly allows: BlockList;
}

export interface GatewayReachOptions extends GatewayNetworks {
  readonly directory: Pick<Directory, 'find' | 'isGateway'>;
  readonly own: Pick<OwnIdentity, 'earns' | 'hasLost'>;
  /** The agent's own, at which the gateway's identity is registered. */
  readonly meshPort: number;
}

/**
 * What no configuration lets a gateway go to. The metadata services of clouds that are not link-local (Azure and Alibaba by IPv4; AWS and Google by IPv6) hand out the credentials
 * of the gateway's own machine to whoever asks from there. Protocol assignments (RFC 6890; Oracle's metadata at 192.0.0.192), reserved addresses (RFC 1112 4), site-local ones
 * (RFC 3879), the prefix for translation within a network (RFC 8215), whose IPv4 address may stand anywhere, and Teredo (RFC 4380) lead nowhere outside.
 */
const NEVER = buildNetworkList(
  [
    '168.63.129.16/32',
    '100.100.100.200/32',
    'fd00:ec2::/32',
    'fd20:ce::254/128',
    '192.0.0.0/24',
    '240.0.0.0/4',
    'fec0::/10',
    '64:ff9b:1::/48',
    '2001::/32',
  ].map(parseCidr),
);

const INSIDE = buildNetworkList(INSIDE_NETWORKS);

/**
 * Where this host may go as a gateway, and whether it is one by what its process earns. Asked for what other hosts bring and for its own programs that are sent through it alike:
 * the address is the caller's choice, by a name that may be administered by anybody, and the gateway stands where the caller does not.
 */
export class GatewayReach {
  readonly #options: GatewayReachOptions;

  constructor(options: GatewayReachOptions) {
    this.#options = options;
  }

  /** Why nothing goes there by this host as that gateway, whatever the policy says. Rejects where it cannot be told. */
  async findRefusal(gateway: SpiffeId, destination: SocketAddress): Promise<Refusal | undefined> {
    const message = this.#findBarrier(destination);
    if (message !== undefined) return { reason: 'egress_deny', message };
    if (await this.#options.own.earns(gateway)) return undefined;
    return {
      reason: 'listener_unidentified',
      message: `The process of the gateway does not earn ${gateway}`,
    };
  }

  /** Why what this host took out as that gateway may not go on, whatever the policy says; undefined while it may. */
  findLoss(gateway: SpiffeId): Refusal | undefined {
    const { directory, own, meshPort } = this.#options;
    if (!directory.isGateway(gateway, meshPort))
      return { reason: 'listener_not_registered', message: `This host is no gateway ${gateway} any more` };
    if (!own.hasLost(gateway)) return undefined;
    return {
      reason: 'listener_unidentified',
      message: `The process of the gateway does not earn ${gateway} any more`,
    };
  }

  #findBarrier({ address, port }: SocketAddress): string | undefined {
    const canonical = canonicalAddress(address);
    if (canonical === undefined) return 'A gateway takes nothing to what is no address';
    // To whatever a translator on the way may make of it as well.
    for (const each of [canonical, ...embeddedIpv4s(canonical)]) {
      const barrier = this.#findBarrierAt({ address: each, port });
      if (barrier !== undefined) return barrier;
    }
    return undefined;
  }

  #findBarrierAt({ address, port }: SocketAddress): string | undefined {
    const { directory, refuses, allows } = this.#options;
    const isIn = (list: BlockList): boolean => list.check(address, isIPv4(address) ? 'ipv4' : 'ipv6');
    if (!isHostAddress(address) || isIn(NEVER))
      return 'A gateway takes nothing to its host’s links, to metadata services or to reserved addresses';
    if (isIn(refuses)) return 'This gateway refuses that network (egress.gateway_refuses, servers)';
    if (isIn(INSIDE) && !isIn(allows))
      return 'A gateway takes nothing to an inside network that egress.gateway_allows does not name';
    if (directory.find({ address, port }).kind === 'outside') return undefined;
    return 'A gateway takes nothing into the mesh or to itself';
  }
}
