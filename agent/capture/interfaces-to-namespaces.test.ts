import { expect, test } from 'bun:test';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import type { NetworkNamespace } from '../native/network-namespace.ts';
import { InterfacesToNamespaces } from './interfaces-to-namespaces.ts';

/** A host on which each namespace has one interface, and gets its number when interfaces are read. */
class Host {
  readonly clock = new FakeClock();
  readonly namespaces: NetworkNamespace[] = [];
  numbered = 0;
  reads = 0;
  readonly interfaces = new InterfacesToNamespaces({
    findId: (namespace) => {
      const id = this.namespaces.indexOf(namespace);
      return id < this.numbered ? id : undefined;
    },
    readAll: () => {
      this.reads += 1;
      this.numbered = this.namespaces.length;
      return new Map(this.namespaces.map((_, id) => [id, [id + 100]]));
    },
    clock: this.clock,
  });

  add(): NetworkNamespace {
    const namespace = { name: `pod ${this.namespaces.length}` } as NetworkNamespace;
    this.namespaces.push(namespace);
    return namespace;
  }
}

test('InterfacesToNamespaces reads all interfaces once in a quarter of a second, however many ask', () => {
  const host = new Host();
  const all = Array.from({ length: 200 }, () => host.add());
  const find = () => all.map((namespace) => host.interfaces.find(namespace));
  expect(find()).toEqual(all.map((_, id) => [id + 100]));
  const first = host.reads;
  find();
  host.clock.advance(249);
  find();
  expect(host.reads).toBe(first);
  for (let quarter = 0; quarter < 4; quarter++) {
    host.clock.advance(250);
    find();
  }
  expect(host.reads).toBe(first + 4);
});

test('InterfacesToNamespaces finds those of a namespace that came a moment ago, and none that were read while its number was another’s', () => {
  const host = new Host();
  host.interfaces.find(host.add());
  const late = host.add();
  // Its number is not told before interfaces are.
  expect(host.interfaces.find(late)).toEqual([]);
  host.numbered = 2;
  const before = host.reads;
  expect(host.interfaces.find(late)).toEqual([101]);
  expect(host.reads).toBe(before + 1);
});
