import type { Command } from 'commander';
import type { z } from 'zod';
import { PicketError } from '../../shared/errors/errors.ts';
import { service, servicePage, type ServiceAddress } from '../../shared/protocol/service.ts';
import { wholeNumber } from '../duration-option.ts';
import { collect, withExamples } from '../example.ts';
import { fields, table } from '../output.ts';
import { openSession } from '../session.ts';

type Service = z.output<typeof service>;

interface SetOptions {
  readonly spiffeId: string;
  readonly port: number;
  readonly address: readonly string[];
}

/** `picket service`: one address for a workload that runs on several hosts. */
export function registerService(program: Command): void {
  const services = program
    .command('service')
    .description('one address for a workload on several hosts: the nearest that is well is taken');
  withExamples(
    services
      .command('set <name>')
      .description('declare a service, in the place of the one of that name')
      .requiredOption('--spiffe-id <id>', 'who answers, on whichever host')
      .requiredOption('--port <port>', 'port of the listeners of that identity', wholeNumber)
      .requiredOption(
        '--address <ip:port>',
        'address that leads to it, which no host has (repeatable)',
        collect,
      )
      .action(set),
    'picket service set shop --spiffe-id spiffe://example.org/ns/shop/sa/web --port 8080 --address 10.96.0.10:80',
    'picket service set db --spiffe-id spiffe://example.org/db --port 5432 --address 10.96.0.11:5432 --address [fd00:96::11]:5432',
  );
  withExamples(
    services.command('list').description('services, and how many members each has').action(list),
    'picket service list --json',
  );
  withExamples(
    services.command('show <name>').description('one service').action(show),
    'picket service show shop',
  );
  withExamples(
    services
      .command('delete <name>')
      .description('take a service away: its addresses are then outside of the mesh')
      .action(remove),
    'picket service delete shop',
  );
}

async function set(name: string, options: SetOptions, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  const body = {
    spiffeId: options.spiffeId,
    port: options.port,
    addresses: options.address.map(parseAddress),
  };
  const made = await client.put(pathOf(name), service, body);
  output.result(made, render);
  if (made.members === 0)
    output.note(
      '\nNo confirmed address has that listener now. Are identity and port spelled right? picket entry list',
    );
}

async function list(_options: unknown, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  output.result(await client.getAll('/services', servicePage), ({ items }) =>
    table(
      items,
      [
        { title: 'service', of: (s) => s.name },
        { title: 'addresses', of: addressesOf },
        { title: 'members', of: (s) => String(s.members) },
        { title: 'port', of: (s) => String(s.port) },
        { title: 'identity', of: (s) => s.spiffeId },
      ],
      'No service is declared.',
    ),
  );
}

async function show(name: string, _options: unknown, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  output.result(await client.get(pathOf(name), service), render);
}

async function remove(name: string, _options: unknown, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  await client.delete(pathOf(name));
  output.result({ deleted: name }, () => `Deleted service ${name}`);
}

/** Throws `invalid_argument`, reason `service_address_invalid`. */
function parseAddress(text: string): ServiceAddress {
  const [, six, four, port] = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):(\d{1,5})$/.exec(text) ?? [];
  const address = six ?? four;
  if (address !== undefined) return { address, port: Number(port) };
  throw new PicketError(
    'invalid_argument',
    'service_address_invalid',
    `Cannot read --address "${text}": expected IP:PORT, an IPv6 address in brackets`,
  );
}

function pathOf(name: string): string {
  return `/services/${encodeURIComponent(name)}`;
}

function addressesOf({ addresses }: Service): string {
  return addresses
    .map(({ address, port }) => (address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`))
    .join(', ');
}

function render(s: Service): string {
  return fields([
    ['service', s.name],
    ['addresses', addressesOf(s)],
    ['identity', s.spiffeId],
    ['members', `${s.members} confirmed addresses with its listener at port ${s.port}`],
    ['by', `${s.createdBy}, ${s.createdAt}`],
  ]);
}
