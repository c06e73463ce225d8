import type { DecisionCaller } from '../../shared/policy/decision.ts';
import type { DecisionNetworks } from '../../shared/policy/circumstances.ts';
import { encodeIpAddress, isIpv4Mapped } from '../../shared/runtime/ip-address.ts';
import { isInNetwork, type Cidr } from '../capture/cidr.ts';

/** Networks by the name under which a policy knows them. */
export type NetworkNames = ReadonlyMap<string, readonly Cidr[]>;

/** Tells in which of the named networks a caller's address is: the one that its packets came from, never one that it says. */
export class NamedNetworks {
  readonly #names: NetworkNames;
  /** The same ends come with every decision of a connection. */
  readonly #known = new WeakMap<DecisionCaller, DecisionNetworks>();

  constructor(names: NetworkNames) {
    this.#names = names;
  }

  /** Every name, with whether the address is in it. An address that cannot be read is in none: what must be in a network is not. */
  locate(caller: DecisionCaller): DecisionNetworks {
    const known = this.#known.get(caller);
    if (known !== undefined) return known;
    const bytes = findBytes(caller.address);
    const found = Object.fromEntries(
      Array.from(this.#names, ([name, networks]) => [
        name,
        bytes !== undefined && networks.some((network) => isInNetwork(network, bytes)),
      ]),
    );
    this.#known.set(caller, found);
    return found;
  }
}

/** A link-local address may carry its zone. */
function findBytes(address: string): Uint8Array | undefined {
  try {
    const bytes = encodeIpAddress(address.replace(/%.*$/, ''));
    return bytes.length === 16 && isIpv4Mapped(bytes) ? bytes.subarray(12) : bytes;
  } catch {
    return undefined;
  }
}
