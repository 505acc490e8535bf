;; x << 34 of 64 bits is no scale of an address: the shift count has six bits, not five.
(module
  (memory 2 2)
  (func (export "f") (param i32 i64) (result i64)
    (i64.add (i64.const 1) (i64.shl (local.get 1) (i64.const 34)))))
