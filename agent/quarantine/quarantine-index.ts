import type { QuarantineRecord } from '../../shared/protocol/quarantine.ts';
import { segmentsOf } from '../../shared/spiffe/segment.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { canonicalAddress } from '../directory/host-address.ts';

/** One end of a connection. */
export interface End {
  readonly spiffeId: SpiffeId | null;
  readonly address: string;
  /** Who was chosen to answer, where `address` is that of a service in several places. */
  readonly member?: { readonly address: string };
  /** Of the certificate that proved the identity, lower-case hexadecimal; absent where none was shown. */
  readonly certificateSerial?: string;
}

/** IDs whose answer is remembered: they come from certificates of the mesh, still there must be an end to them. */
const MAX_REMEMBERED = 10_000;

/** The quarantines in force, made once for each change and asked for every connection and request. */
export class QuarantineIndex {
  readonly #workloads = new Set<SpiffeId>();
  readonly #segments = new Set<SpiffeId>();
  readonly #nodes = new Set<SpiffeId>();
  readonly #addresses = new Set<string>();
  readonly #serials = new Set<string>();
  readonly #isHeld = new Map<SpiffeId, boolean>();
  readonly size: number;

  constructor(records: Iterable<QuarantineRecord>) {
    let size = 0;
    for (const { kind, subject, addresses, serials } of records) {
      size += 1;
      this.#of(kind).add(subject);
      for (const address of addresses) this.#addresses.add(address);
      for (const serial of serials) this.#serials.add(serial);
    }
    this.size = size;
  }

  get hasNodes(): boolean {
    return this.#nodes.size > 0;
  }

  holdsNode(nodeId: SpiffeId): boolean {
    return this.#nodes.has(nodeId);
  }

  /** Whether a workload is in quarantine as such, or by its segment. */
  holdsWorkload(id: SpiffeId): boolean {
    if (this.#workloads.size === 0 && this.#segments.size === 0) return false;
    const known = this.#isHeld.get(id);
    if (known !== undefined) return known;
    const isHeld = this.#workloads.has(id) || this.#isInSegment(id);
    if (this.#isHeld.size >= MAX_REMEMBERED) this.#isHeld.clear();
    this.#isHeld.set(id, isHeld);
    return isHeld;
  }

  /** Whether an end stands on a quarantined node: by its address, or by a certificate that was issued to that node, wherever it is used. */
  isOnNode({ member, certificateSerial, ...end }: End): boolean {
    if (certificateSerial !== undefined && this.#serials.has(certificateSerial)) return true;
    const { address } = member ?? end;
    return this.#addresses.size > 0 && this.#addresses.has(canonicalAddress(address) ?? address);
  }

  #of(kind: QuarantineRecord['kind']): Set<SpiffeId> {
    switch (kind) {
      case 'workload':
        return this.#workloads;
      case 'segment':
        return this.#segments;
      case 'node':
        return this.#nodes;
    }
  }

  #isInSegment(id: SpiffeId): boolean {
    if (this.#segments.size === 0) return false;
    for (const segment of segmentsOf(id)) if (this.#segments.has(segment)) return true;
    return false;
  }
}
