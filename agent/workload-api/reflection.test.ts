import { afterEach, beforeEach, expect, test } from 'bun:test';
import { fromBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { join } from 'node:path';
import { WorkloadRig } from './fixtures/workload-rig.ts';

const definition = loadSync(join(import.meta.dirname, 'proto/grpc/reflection/v1/reflection.proto'), {
  keepCase: true,
  defaults: false,
});
const root = grpc.loadPackageDefinition(definition) as unknown as {
  readonly grpc: {
    readonly reflection: { readonly v1: { readonly ServerReflection: grpc.ServiceClientConstructor } };
  };
};

interface Answer {
  readonly list_services_response?: { readonly service: readonly { readonly name: string }[] };
  readonly file_descriptor_response?: { readonly file_descriptor_proto: readonly Buffer[] };
  readonly error_response?: { readonly error_code: number };
}

let rig: WorkloadRig;

beforeEach(async () => {
  rig = new WorkloadRig();
  await rig.start();
});

afterEach(() => rig.stop());

/** Asks with a client that is not ours; the answers, or the status of a refusal. */
async function ask(
  questions: readonly object[],
  metadata = 'true',
): Promise<readonly Answer[] | grpc.status> {
  const service = root.grpc.reflection.v1.ServerReflection;
  const client = new service(`unix:${rig.path}`, grpc.credentials.createInsecure());
  const headers = new grpc.Metadata();
  headers.set('workload.spiffe.io', metadata);
  const { path, requestSerialize, responseDeserialize } = service.service[
    'ServerReflectionInfo'
  ] as grpc.MethodDefinition<object, Answer>;
  const call = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, headers);
  const answers: Answer[] = [];
  call.on('data', (answer: Answer) => answers.push(answer));
  const ended = new Promise<grpc.status>((resolve) => {
    call.on('error', () => undefined);
    call.on('status', ({ code }) => resolve(code));
  });
  for (const question of questions) call.write(question);
  call.end();
  const code = await ended;
  client.close();
  return code === grpc.status.OK ? answers : code;
}

async function filesOf(question: object): Promise<readonly string[]> {
  const [answer] = (await ask([question])) as readonly Answer[];
  return (answer?.file_descriptor_response?.file_descriptor_proto ?? []).map(
    (bytes) => fromBinary(FileDescriptorProtoSchema, bytes).name,
  );
}

test('createReflection() lists the services of the endpoint', async () => {
  const [answer] = (await ask([{ list_services: '' }])) as readonly Answer[];
  expect(answer?.list_services_response?.service.map(({ name }) => name)).toEqual([
    'SpiffeWorkloadAPI',
    'grpc.reflection.v1.ServerReflection',
  ]);
});

test.each([
  { file_containing_symbol: 'SpiffeWorkloadAPI' },
  { file_containing_symbol: 'SpiffeWorkloadAPI.FetchX509SVID' },
  { file_containing_symbol: 'X509SVIDResponse' },
  { file_by_filename: 'workloadapi.proto' },
])('createReflection() gives the file of question %# with what it imports', async (question) => {
  expect(await filesOf(question)).toEqual(['workloadapi.proto', 'google/protobuf/struct.proto']);
});

test.each([
  [{ file_containing_symbol: 'Nothing' }, grpc.status.NOT_FOUND],
  [{ file_containing_symbol: 'SpiffeWorkloadAPI.Nothing' }, grpc.status.NOT_FOUND],
  [{ file_containing_symbol: '' }, grpc.status.NOT_FOUND],
  [{ file_by_filename: '/etc/passwd' }, grpc.status.NOT_FOUND],
  [{ all_extension_numbers_of_type: 'X509SVID' }, grpc.status.NOT_FOUND],
  [{}, grpc.status.INVALID_ARGUMENT],
])('createReflection() answers question %# by an error', async (question, code) => {
  const [answer] = (await ask([question])) as readonly Answer[];
  expect(answer?.error_response?.error_code).toBe(code);
});

test('createReflection() answers one question after another, and nothing without the metadata', async () => {
  expect(await ask([{ list_services: '' }, { list_services: '' }])).toHaveLength(2);
  expect(await ask([{ list_services: '' }], 'false')).toBe(grpc.status.INVALID_ARGUMENT);
});
