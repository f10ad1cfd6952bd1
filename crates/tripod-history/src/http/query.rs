//! Queries.

use std::time::Duration;

use axum::extract::{Request, State};

use super::Api;
use super::answer::{Answer, Data, Failure};
use super::json;
use super::parameters::{Parameters, duration_ms, time_ms};
use crate::promql::{ErrorKind, check};

pub(super) async fn instant(State(api): State<Api>, request: Request) -> Answer {
    let parameters = Parameters::of(request).await?;
    let time_ms = match parameters.get("time") {
        "" => (api.now)(),
        text => time_ms(text).map_err(|error| {
            Failure::bad_data(format!("Invalid time value for 'time': {error}")).about("time")
        })?,
    };
    let timeout = timeout(&api, &parameters)?;
    let text = parameters.get("query").to_owned();
    let work = move |api: Api| {
        let value = api.engine.instant(&*api.source, &text, time_ms).map_err(|error| {
            let about_query = error.kind() == ErrorKind::BadQuery;
            let failure = Failure::from(error);
            if about_query { failure.about("query") } else { failure }
        })?;
        Ok(Data(json::query_value(&value)))
    };
    api.run(timeout, work).await
}

pub(super) async fn range(State(api): State<Api>, request: Request) -> Answer {
    let parameters = Parameters::of(request).await?;
    let moment =
        |name| time_ms(parameters.get(name)).map_err(|error| Failure::from(error).about(name));
    let (start_ms, end_ms) = (moment("start")?, moment("end")?);
    if end_ms < start_ms {
        let message = "end timestamp must not be before start time";
        return Err(Failure::bad_data(message).about("end"));
    }
    let step_ms =
        duration_ms(parameters.get("step")).map_err(|error| Failure::from(error).about("step"))?;
    if step_ms <= 0 {
        let message = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(Failure::bad_data(message).about("step"));
    }
    let timeout = timeout(&api, &parameters)?;
    let text = parameters.get("query").to_owned();
    let work = move |api: Api| {
        let value = api.engine.range(&*api.source, &text, start_ms, end_ms, step_ms)?;
        Ok(Data(json::query_value(&value)))
    };
    api.run(timeout, work).await
}

/// No exemplars, but the errors of a query that is none.
pub(super) async fn exemplars(State(_): State<Api>, request: Request) -> Answer {
    let parameters = Parameters::of(request).await?;
    check(parameters.get("query"))?;
    Ok(Data("[]".to_owned()))
}

/// How long the query may take: what the request asks for, but no more than is allowed.
fn timeout(api: &Api, parameters: &Parameters) -> Result<Duration, Failure> {
    let text = parameters.get("timeout");
    if text.is_empty() {
        return Ok(api.timeout);
    }
    let ms = duration_ms(text).map_err(|error| Failure::from(error).about("timeout"))?;
    Ok(api.timeout.min(Duration::from_millis(ms.max(0).unsigned_abs())))
}
