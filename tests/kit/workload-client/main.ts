/**
 * A client of the SPIFFE Workload API that is not ours: grpc-js with the standard's proto file. Usage: client SOCKET PROTO METHOD COUNT [--no-header]
 * Prints each of the first COUNT answers of the stream as a line of JSON (bytes as base64), or {"error": code}.
 */
import { credentials, loadPackageDefinition, Metadata, type ServiceError } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

interface AnswerStream {
  on(event: 'data', listener: (answer: unknown) => void): AnswerStream;
  on(event: 'error', listener: (error: ServiceError) => void): AnswerStream;
  on(event: 'end', listener: () => void): AnswerStream;
  cancel(): void;
}

type Call = (request: object, metadata: Metadata) => AnswerStream;

const [socket = '', proto = '', method = '', count = '1', flag] = process.argv.slice(2);

main();

function main(): void {
  const definition = loadPackageDefinition(loadSync(proto, { keepCase: true, bytes: String }));
  const Client = definition['SpiffeWorkloadAPI'] as unknown as new (
    address: string,
    channel: ReturnType<typeof credentials.createInsecure>,
  ) => Readonly<Record<string, Call>>;
  const client = new Client(`unix:${socket}`, credentials.createInsecure());
  const metadata = new Metadata();
  if (flag !== '--no-header') metadata.set('workload.spiffe.io', 'true');
  const stream = client[method]?.call(client, {}, metadata);
  if (stream === undefined) throw new Error(`The service has no method ${method}`);
  let left = Number(count);
  stream.on('data', (answer) => {
    print(answer);
    left -= 1;
    if (left === 0) process.exit(0);
  });
  stream.on('error', (error) => {
    print({ error: error.code, details: error.details });
    process.exit(1);
  });
  stream.on('end', () => process.exit(0));
}

function print(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
