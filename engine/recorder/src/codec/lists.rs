//! How a struct or an enum is listed.

/// Structs: the fields in the order of the file. A field that is left out does not compile.
macro_rules! structs {
    ($($name:ident { $($field:ident),* $(,)? })*) => {$(
        impl Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                let Self { $($field),* } = self;
                $($field.encode(out);)*
            }
        }

        impl Decode for $name {
            fn decode(from: &mut Source) -> Result<Self, Malformed> {
                Ok(Self { $($field: Decode::decode(from)?),* })
            }
        }
    )*};
}

/// Enums: each variant with the number that stands for it. A variant that is left out does not
/// compile. A number is never used again for another one.
macro_rules! enums {
    ($($name:ident { $(
        $tag:literal: $variant:ident $(($($inner:ident),*))? $({ $($field:ident),* })?
    ),* $(,)? })*) => {$(
        impl Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant $(($($inner),*))? $({ $($field),* })? => {
                        out.push($tag);
                        $($($inner.encode(out);)*)?
                        $($($field.encode(out);)*)?
                    })*
                }
            }
        }

        impl Decode for $name {
            fn decode(from: &mut Source) -> Result<Self, Malformed> {
                match u8::decode(from)? {
                    $($tag => {
                        $($(let $inner = Decode::decode(from)?;)*)?
                        Ok(Self::$variant $(($($inner),*))? $({ $($field: Decode::decode(from)?),* })?)
                    })*
                    other => Err(Malformed::Tag(other)),
                }
            }
        }
    )*};
}

/// Numbers with a type of their own.
macro_rules! newtypes {
    ($($name:ident)*) => {$(
        impl Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                self.0.encode(out);
            }
        }

        impl Decode for $name {
            fn decode(from: &mut Source) -> Result<Self, Malformed> {
                Decode::decode(from).map(Self)
            }
        }
    )*};
}

pub(super) use {enums, newtypes, structs};
