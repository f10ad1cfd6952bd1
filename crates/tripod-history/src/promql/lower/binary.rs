//! Operators between two expressions.

use promql_parser::parser::value::ValueType;
use promql_parser::parser::{
    BinModifier, BinaryExpr, LabelModifier, VectorMatchCardinality, token,
};

use super::super::error::QueryError;
use super::super::plan::{
    Cardinality, Comparison, Join, Matching, Operator, Scalar, SetOperator, Vector, WithScalar,
};
use super::Lower;

impl Lower {
    pub(super) fn scalar_binary(self, binary: &BinaryExpr) -> Result<Scalar, QueryError> {
        Ok(Scalar::Binary {
            operator: operator(binary)?,
            lhs: Box::new(self.scalar(&binary.lhs)?),
            rhs: Box::new(self.scalar(&binary.rhs)?),
        })
    }

    pub(super) fn vector_binary(self, binary: &BinaryExpr) -> Result<Vector, QueryError> {
        refuse_fill(binary.modifier.as_ref())?;
        let scalar = |side: ValueType| side == ValueType::Scalar;
        match (scalar(binary.lhs.value_type()), scalar(binary.rhs.value_type())) {
            (false, false) => self.between_vectors(binary),
            (scalar_is_left, _) => self.with_scalar(binary, scalar_is_left),
        }
    }

    fn with_scalar(self, binary: &BinaryExpr, scalar_is_left: bool) -> Result<Vector, QueryError> {
        let (scalar, vector) =
            if scalar_is_left { (&binary.lhs, &binary.rhs) } else { (&binary.rhs, &binary.lhs) };
        Ok(Vector::WithScalar(WithScalar {
            operator: operator(binary)?,
            returns_bool: binary.return_bool(),
            vector: Box::new(self.vector(vector)?),
            scalar: Box::new(self.scalar(scalar)?),
            scalar_is_left,
        }))
    }

    fn between_vectors(self, binary: &BinaryExpr) -> Result<Vector, QueryError> {
        let lhs = Box::new(self.vector(&binary.lhs)?);
        let rhs = Box::new(self.vector(&binary.rhs)?);
        let modifier = binary.modifier.as_ref();
        let matching = match modifier.and_then(|modifier| modifier.matching.as_ref()) {
            None => Matching::Ignoring(Vec::new()),
            Some(LabelModifier::Include(labels)) => Matching::On(labels.labels.clone()),
            Some(LabelModifier::Exclude(labels)) => Matching::Ignoring(labels.labels.clone()),
        };
        let set = match binary.op.id() {
            token::T_LAND => Some(SetOperator::And),
            token::T_LOR => Some(SetOperator::Or),
            token::T_LUNLESS => Some(SetOperator::Unless),
            _ => None,
        };
        if let Some(operator) = set {
            return Ok(Vector::Set { operator, lhs, rhs, matching });
        }
        let cardinality = match modifier.map(|modifier| &modifier.card) {
            Some(VectorMatchCardinality::ManyToOne(labels)) => {
                Cardinality::ManyToOne(labels.labels.clone())
            }
            Some(VectorMatchCardinality::OneToMany(labels)) => {
                Cardinality::OneToMany(labels.labels.clone())
            }
            _ => Cardinality::OneToOne,
        };
        let (operator, returns_bool) = (operator(binary)?, binary.return_bool());
        Ok(Vector::Join(Join { operator, returns_bool, lhs, rhs, matching, cardinality }))
    }
}

fn refuse_fill(modifier: Option<&BinModifier>) -> Result<(), QueryError> {
    match modifier.map(|modifier| &modifier.fill_values) {
        Some(fill) if fill.lhs.is_some() || fill.rhs.is_some() => {
            Err(QueryError::parse("the fill modifiers are not supported"))
        }
        _ => Ok(()),
    }
}

fn operator(binary: &BinaryExpr) -> Result<Operator, QueryError> {
    Ok(match binary.op.id() {
        token::T_ADD => Operator::Add,
        token::T_SUB => Operator::Subtract,
        token::T_MUL => Operator::Multiply,
        token::T_DIV => Operator::Divide,
        token::T_MOD => Operator::Modulo,
        token::T_POW => Operator::Power,
        token::T_ATAN2 => Operator::Atan2,
        token::T_EQLC => Operator::Compare(Comparison::Equal),
        token::T_NEQ => Operator::Compare(Comparison::NotEqual),
        token::T_LSS => Operator::Compare(Comparison::Less),
        token::T_LTE => Operator::Compare(Comparison::LessOrEqual),
        token::T_GTR => Operator::Compare(Comparison::Greater),
        token::T_GTE => Operator::Compare(Comparison::GreaterOrEqual),
        _ => return Err(QueryError::parse(format!("{} is no operator of numbers", binary.op))),
    })
}
