/** What may be put out when places run short: by source, in the order of their coming. Whoever brings the most is the first to lose. */
export class YieldingQueue<Item> {
  readonly #sources = new Map<string, Set<Item>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  countOf(source: string): number {
    return this.#sources.get(source)?.size ?? 0;
  }

  add(source: string, item: Item): void {
    const items = this.#sources.get(source) ?? new Set<Item>();
    this.#sources.set(source, items);
    if (!items.has(item)) this.#size += 1;
    items.add(item);
  }

  /** Harmless for what is not there. */
  delete(source: string, item: Item): void {
    const items = this.#sources.get(source);
    if (items?.delete(item) !== true) return;
    this.#size -= 1;
    if (items.size === 0) this.#sources.delete(source);
  }

  /** The oldest of a source, of those that suit. */
  findOldestOf(source: string, suits: (item: Item) => boolean = () => true): Item | undefined {
    for (const item of this.#sources.get(source) ?? []) if (suits(item)) return item;
    return undefined;
  }

  /** The oldest of the source that has the most; where several have as many, of the one that came first. One step for each source. */
  findOldestOfLargest(): Item | undefined {
    let largest: ReadonlySet<Item> | undefined;
    for (const items of this.#sources.values())
      if (largest === undefined || items.size > largest.size) largest = items;
    const [oldest] = largest ?? [];
    return oldest;
  }
}
