import type { AskedDatagram } from '../../capture/datagram-gate.ts';

/** How much may wait. */
export interface WaitingRoom {
  /** Flows that are decided on at once. */
  readonly maxFlows: number;
  /** Of the datagrams of all. */
  readonly maxBytes: number;
}

/** What waits of one flow. */
const MAX_PER_FLOW = 16;

/** Datagrams of flows on which a decision is being made, within bounds: what is over them is dropped, as datagrams may be. */
export class WaitingDatagrams {
  readonly #flows = new Map<string, AskedDatagram[]>();
  readonly #room: WaitingRoom;
  #bytes = 0;

  constructor(room: WaitingRoom) {
    this.#room = room;
  }

  has(name: string): boolean {
    return this.#flows.has(name);
  }

  /** Whether there was room for it. */
  add(name: string, asked: AskedDatagram): boolean {
    const known = this.#flows.get(name);
    const isFull =
      known === undefined ? this.#flows.size >= this.#room.maxFlows : known.length >= MAX_PER_FLOW;
    if (isFull || this.#bytes + asked.payload.length > this.#room.maxBytes) return false;
    // The bytes belong to whoever read them.
    const own = { ...asked, payload: Buffer.from(asked.payload) };
    this.#bytes += own.payload.length;
    if (known === undefined) this.#flows.set(name, [own]);
    else known.push(own);
    return true;
  }

  /** What waited of a flow, which waits no more. */
  take(name: string): readonly AskedDatagram[] {
    const taken = this.#flows.get(name) ?? [];
    this.#flows.delete(name);
    for (const { payload } of taken) this.#bytes -= payload.length;
    return taken;
  }
}
