import { describeKeyManager } from './contract.ts';
import { MemoryKeyManager } from './memory.ts';

describeKeyManager('MemoryKeyManager', () =>
  Promise.resolve({ keys: new MemoryKeyManager(), remove: () => Promise.resolve() }),
);
